//! Who may begin to talk to whom: one function for programs in the kernel and for whoever explains what they do.
//!
//! ```text
//! address ─▶ Class          what all policies say of its owner, worked out by whoever knows names and labels
//! pair of classes, protocol, port ─▶ Ruling     what some rule says of it
//! both classes and the ruling ─▶ judge ─▶ Judgement
//! ```
//!
//! Rules only allow; so their order never matters, and what no rule mentions is decided by the flags of the classes.

#[cfg(feature = "user")]
mod wanted;

#[cfg(feature = "user")]
pub use wanted::{Match, PolicyWanted, Traffic, port_prefixes};

/// Owners of addresses that all policies treat alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Its number: [`Class::WORLD`], [`Class::HOST`], or one from [`Class::FIRST`] on.
    pub class: u32,
    /// Number of the overlay; zero outside of overlays.
    pub overlay: u32,
    /// [`Class::GUARDED_INGRESS`] and the like.
    pub flags: u32,
}

impl Class {
    /// Whoever has no address that anybody knows.
    pub const WORLD: u32 = 0;
    /// This node itself, which always reaches its containers.
    pub const HOST: u32 = 1;
    /// The first number that is free for others.
    pub const FIRST: u32 = 2;

    /// Only what a rule allows may come in.
    pub const GUARDED_INGRESS: u32 = 1;
    /// Only what a rule allows may go out.
    pub const GUARDED_EGRESS: u32 = 2;
    /// What no rule allows to come in is reported.
    pub const AUDITED_INGRESS: u32 = 4;
    /// What no rule allows to go out is reported.
    pub const AUDITED_EGRESS: u32 = 8;

    /// Whether anything that comes in has to be looked at.
    #[inline(always)]
    #[must_use]
    pub const fn judges_ingress(&self) -> bool {
        self.flags & (Self::GUARDED_INGRESS | Self::AUDITED_INGRESS) != 0
    }

    /// Whether anything that goes out has to be looked at.
    #[inline(always)]
    #[must_use]
    pub const fn judges_egress(&self) -> bool {
        self.flags & (Self::GUARDED_EGRESS | Self::AUDITED_EGRESS) != 0
    }

    /// Whether the two belong to different overlays.
    #[inline(always)]
    #[must_use]
    pub const fn is_apart_from(&self, other: &Self) -> bool {
        self.overlay != other.overlay && self.overlay != 0 && other.overlay != 0
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// It passes.
    Allow = 0,
    /// It passes, and is reported: a policy that is being tried out would refuse it.
    Audit = 1,
    /// It is refused.
    Refuse = 2,
}

impl Action {
    /// Of its number in a map; one that nobody knows refuses.
    #[inline(always)]
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Allow,
            1 => Self::Audit,
            _ => Self::Refuse,
        }
    }
}

/// What the rules say of a pair of classes, a protocol and a port. Both directions are one ruling: it allows what the
/// receiver's rules let in and the sender's rules let out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Number of the rule, under which it is counted: from [`number::FIRST_RULE`] on, or one of the defaults.
    pub rule: u32,
    /// What becomes of it.
    pub action: Action,
}

/// Numbers of what decides where no rule does.
pub mod number {
    /// The node reaches its containers.
    pub const HOST: u32 = 0;
    /// Nothing guards either end.
    pub const OPEN: u32 = 1;
    /// Overlays are apart.
    pub const ISOLATION: u32 = 2;
    /// The receiver is guarded, and no rule lets this in.
    pub const GUARD_INGRESS: u32 = 3;
    /// The sender is guarded, and no rule lets this out.
    pub const GUARD_EGRESS: u32 = 4;
    /// As [`GUARD_INGRESS`], of policies that are being tried out.
    pub const AUDIT_INGRESS: u32 = 5;
    /// As [`GUARD_EGRESS`], of policies that are being tried out.
    pub const AUDIT_EGRESS: u32 = 6;
    /// A container used an address of another one.
    pub const FOREIGN_ADDRESS: u32 = 7;
    /// The first number of a rule.
    pub const FIRST_RULE: u32 = 8;
}

/// Whether packets pass from one overlay to another if no rule says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlays {
    /// They do not.
    #[default]
    Apart,
    /// They do.
    Together,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It passes; a policy that is being tried out would refuse it.
    WouldRefuse,
    /// It is refused.
    Refuse,
}

/// The answer, and what it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of the connection.
    pub verdict: Verdict,
    /// Number of the rule, or one of [`number`].
    pub rule: u32,
}

/// Judges the beginning of a connection or a flow. `ruling` is the most specific one of the rules for the pair.
#[inline(always)]
#[must_use]
pub fn judge(from: &Class, to: &Class, overlays: Overlays, ruling: Option<Ruling>) -> Judgement {
    let judgement = |verdict, rule| Judgement { verdict, rule };
    if from.class == Class::HOST {
        return judgement(Verdict::Pass, number::HOST);
    }
    if let Some(ruling) = ruling {
        let verdict = match ruling.action {
            Action::Allow => Verdict::Pass,
            Action::Audit => Verdict::WouldRefuse,
            Action::Refuse => Verdict::Refuse,
        };
        return judgement(verdict, ruling.rule);
    }
    if to.flags & Class::GUARDED_INGRESS != 0 {
        return judgement(Verdict::Refuse, number::GUARD_INGRESS);
    }
    if from.flags & Class::GUARDED_EGRESS != 0 {
        return judgement(Verdict::Refuse, number::GUARD_EGRESS);
    }
    if matches!(overlays, Overlays::Apart) && from.is_apart_from(to) {
        return judgement(Verdict::Refuse, number::ISOLATION);
    }
    if to.flags & Class::AUDITED_INGRESS != 0 {
        return judgement(Verdict::WouldRefuse, number::AUDIT_INGRESS);
    }
    if from.flags & Class::AUDITED_EGRESS != 0 {
        return judgement(Verdict::WouldRefuse, number::AUDIT_EGRESS);
    }
    judgement(Verdict::Pass, number::OPEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn class(class: u32, overlay: u32, flags: u32) -> Class {
        Class { class, overlay, flags }
    }

    const OPEN: Class = class(2, 1, 0);
    const OTHER: Class = class(3, 2, 0);
    const SERVER: Class = class(4, 1, Class::GUARDED_INGRESS);
    const FAR_SERVER: Class = class(5, 2, Class::GUARDED_INGRESS);
    const PRISONER: Class = class(6, 1, Class::GUARDED_EGRESS);
    const TRIED: Class = class(7, 1, Class::AUDITED_INGRESS);
    const TRIED_OUT: Class = class(8, 1, Class::AUDITED_EGRESS);
    const WORLD: Class = class(Class::WORLD, 0, 0);
    const HOST: Class = class(Class::HOST, 0, 0);

    #[test]
    fn what_no_rule_mentions_follows_from_the_classes() {
        use Verdict::{Pass, Refuse, WouldRefuse};
        for (from, to, verdict, rule) in [
            (OPEN, OPEN, Pass, number::OPEN),
            (OPEN, WORLD, Pass, number::OPEN),
            (WORLD, OPEN, Pass, number::OPEN),
            (OPEN, OTHER, Refuse, number::ISOLATION),
            (OPEN, SERVER, Refuse, number::GUARD_INGRESS),
            (WORLD, SERVER, Refuse, number::GUARD_INGRESS),
            (OPEN, FAR_SERVER, Refuse, number::GUARD_INGRESS),
            (PRISONER, WORLD, Refuse, number::GUARD_EGRESS),
            (PRISONER, HOST, Refuse, number::GUARD_EGRESS),
            (PRISONER, SERVER, Refuse, number::GUARD_INGRESS),
            (OPEN, TRIED, WouldRefuse, number::AUDIT_INGRESS),
            (OTHER, TRIED, Refuse, number::ISOLATION),
            (TRIED_OUT, WORLD, WouldRefuse, number::AUDIT_EGRESS),
            (HOST, SERVER, Pass, number::HOST),
            (HOST, TRIED, Pass, number::HOST),
        ] {
            let judgement = judge(&from, &to, Overlays::Apart, None);
            assert_eq!(judgement, Judgement { verdict, rule }, "{from:?} {to:?}");
        }
        let together = judge(&OPEN, &OTHER, Overlays::Together, None);
        assert_eq!(together.verdict, Pass);
    }

    #[test]
    fn a_ruling_stands_above_all_but_the_host() {
        let actions = [
            (Action::Allow, Verdict::Pass),
            (Action::Audit, Verdict::WouldRefuse),
            (Action::Refuse, Verdict::Refuse),
        ];
        for (action, verdict) in actions {
            let ruling = Some(Ruling { rule: 9, action });
            for (from, to) in [(OPEN, SERVER), (OPEN, OTHER), (PRISONER, FAR_SERVER)] {
                let judgement = judge(&from, &to, Overlays::Apart, ruling);
                assert_eq!(judgement, Judgement { verdict, rule: 9 });
            }
            assert_eq!(judge(&HOST, &SERVER, Overlays::Apart, ruling).verdict, Verdict::Pass);
            assert_eq!(Action::from_number(action as u32), action);
        }
        assert_eq!(Action::from_number(77), Action::Refuse);
    }
}
