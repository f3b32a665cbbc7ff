//! Lists of members, for nodes that join and for nodes that were members before.

use super::{Swim, packet};
use crate::coding::{Garbage, Reader, Writer};
use crate::identity::Identity;
use foca::Member;
use mizzen_types::time::Mono;

/// A list of members that are taken to be alive until they turn out not to be.
#[must_use]
pub fn list<'a>(members: impl ExactSizeIterator<Item = &'a Identity>) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.byte(packet::FORMAT).length(members.len());
    for member in members {
        packet::write_member(&Member::alive(member.clone()), &mut writer);
    }
    writer.finish()
}

impl Swim {
    /// Everything that is known of members, for a node that joins.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        let members = self.foca.iter_membership_state();
        let mut writer = Writer::default();
        writer.byte(packet::FORMAT).length(members.len() + 1);
        packet::write_member(
            &Member::new(self.me().clone(), self.incarnation, foca::State::Alive),
            &mut writer,
        );
        for member in members {
            packet::write_member(member, &mut writer);
        }
        writer.finish()
    }

    /// Takes in what another node [exported](Self::export), and tells a few of those
    /// members that this node is here.
    ///
    /// # Errors
    ///
    /// [`Garbage`] if it is none; nothing is taken in then.
    pub fn adopt(&mut self, bytes: &[u8], now: Mono) -> Result<(), Garbage> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != packet::FORMAT {
            return Err(Garbage::Unknown("format"));
        }
        let mut members = Vec::new();
        for _ in 0..reader.count(10)? {
            members.push(packet::read_member(&mut reader)?);
        }
        reader.end()?;
        // To a node that joins, all is new, and to nobody else.
        let alone = self.alive() == 0;
        let known = self.known_among(&members);
        self.settle_clashes(&mut members, now);
        members.retain(|member| member.id().tag() != self.me().tag());
        if self.refused.is_some() || self.left {
            return Ok(());
        }
        self.run(now, |foca, out| {
            foca.apply_many(members.into_iter(), !alone, &mut *out)?;
            foca.gossip(out)
        });
        self.look_again(&known, now);
        Ok(())
    }
}
