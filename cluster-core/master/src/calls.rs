//! What frameworks ask for: the gate, then one method per call.

use crate::{Master, SchedulerReply};
use mizzen_api::v1;
use mizzen_api::v1::allocator::inverse_offer_status::Status;
use mizzen_api::v1::scheduler::{Call, call, call::Type};
use mizzen_types::ids::FrameworkId;
use mizzen_types::time::Now;

/// Bytes of a UUID.
const UUID_BYTES: usize = 16;

/// Why a call does not pass the gate.
#[derive(Debug)]
struct Refusal {
    status: u16,
    text: String,
}

impl Refusal {
    fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    fn form(reason: impl std::fmt::Display) -> Self {
        Self::new(400, format!("Failed to validate scheduler::Call: {reason}"))
    }

    fn absent(name: &str) -> Self {
        Self::form(format_args!("Expecting '{name}' to be present"))
    }
}

/// A call whose form is complete.
enum Asked {
    Subscribe(Box<call::Subscribe>),
    Other(FrameworkId, Request),
}

enum Request {
    Teardown,
    Accept(call::Accept),
    Decline(call::Decline),
    AcceptInverse(call::AcceptInverseOffers),
    DeclineInverse(call::DeclineInverseOffers),
    Revive(Vec<String>),
    Suppress(Vec<String>),
    Kill(call::Kill),
    Shutdown(call::Shutdown),
    Acknowledge(call::Acknowledge),
    Reconcile(call::Reconcile),
    ReconcileOperations(call::ReconcileOperations),
    UpdateFramework(Box<call::UpdateFramework>),
    /// Has no effect here, whatever it says; the counter that tells of it.
    Ignored(&'static str),
}

impl Master {
    /// Takes a framework's call. `stream` is the one that the request names,
    /// `fresh_stream_id` is for a SUBSCRIBE and was never used before.
    pub fn scheduler_call(
        &mut self,
        call: Call,
        stream: Option<&str>,
        fresh_stream_id: String,
        now: Now,
    ) -> SchedulerReply {
        self.now = now;
        match self.take_call(call, stream, fresh_stream_id) {
            Ok(reply) => reply,
            Err(refusal) => SchedulerReply::Refused { status: refusal.status, text: refusal.text },
        }
    }

    fn take_call(
        &mut self,
        call: Call,
        stream: Option<&str>,
        fresh_stream_id: String,
    ) -> Result<SchedulerReply, Refusal> {
        let number = call.r#type.ok_or_else(|| Refusal::absent("type"))?;
        let kind = Type::try_from(number).unwrap_or(Type::Unknown);
        match check_form(call, kind)? {
            Asked::Subscribe(_) if stream.is_some() => Err(Refusal::new(
                400,
                "Subscribe calls should not include the 'Mesos-Stream-Id' header",
            )),
            Asked::Subscribe(subscribe) => Ok(self.subscribe(*subscribe, fresh_stream_id)),
            Asked::Other(framework, request) => {
                self.check_stream(&framework, stream)?;
                if let Some(framework) = self.frameworks.get_mut(&framework) {
                    framework.counters.call(kind);
                }
                self.carry_out(&framework, request)
            }
        }
    }

    /// Whether the call comes from the one who listens on the framework's stream.
    fn check_stream(&self, framework: &FrameworkId, stream: Option<&str>) -> Result<(), Refusal> {
        let Some(framework) = self.frameworks.get(framework) else {
            return Err(Refusal::new(400, "Framework cannot be found"));
        };
        let Some(current) = framework.stream_id() else {
            return Err(Refusal::new(403, "Framework is not subscribed"));
        };
        match stream {
            None => Err(Refusal::new(
                400,
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
            )),
            Some(stream) if stream != current => Err(Refusal::new(
                400,
                "The stream ID included in this request didn't match the stream ID currently \
                 associated with this framework",
            )),
            Some(_) => Ok(()),
        }
    }

    fn carry_out(
        &mut self,
        framework: &FrameworkId,
        request: Request,
    ) -> Result<SchedulerReply, Refusal> {
        match request {
            Request::Teardown => self.remove_framework(framework),
            Request::Accept(accept) => self.accept(framework, accept),
            Request::Decline(decline) => self.decline(framework, &decline),
            Request::AcceptInverse(call::AcceptInverseOffers { inverse_offer_ids, filters }) => {
                let (ids, filters) = (&inverse_offer_ids, filters.as_ref());
                self.answer_inverse_offers(framework, ids, filters, Status::Accept);
            }
            Request::DeclineInverse(call::DeclineInverseOffers { inverse_offer_ids, filters }) => {
                let (ids, filters) = (&inverse_offer_ids, filters.as_ref());
                self.answer_inverse_offers(framework, ids, filters, Status::Decline);
            }
            Request::Revive(roles) => self.revive(framework, &roles),
            Request::Suppress(roles) => self.suppress(framework, &roles),
            Request::Kill(kill) => self.kill(framework, kill),
            Request::Shutdown(shutdown) => self.shut_down_executor(framework, &shutdown),
            Request::Acknowledge(acknowledge) => self.acknowledge(framework, acknowledge),
            Request::Reconcile(reconcile) => self.reconcile(framework, &reconcile.tasks),
            Request::ReconcileOperations(reconcile) => {
                self.reconcile_operations(framework, &reconcile.operations);
            }
            Request::UpdateFramework(update) => {
                self.update_framework(framework, *update).map_err(|t| Refusal::new(400, t))?;
            }
            Request::Ignored(counter) => self.counters.count(counter),
        }
        Ok(SchedulerReply::Accepted)
    }
}

/// Checks that the parts of a call are there, whatever the master knows.
fn check_form(call: Call, kind: Type) -> Result<Asked, Refusal> {
    if kind == Type::Subscribe {
        let subscribe = part(call.subscribe, "subscribe")?;
        check_same_id(&call.framework_id, &subscribe.framework_info.id, "subscribe")?;
        return Ok(Asked::Subscribe(Box::new(subscribe)));
    }
    let framework = part(call.framework_id.as_ref(), "framework_id")?.into();
    let request = match kind {
        Type::Teardown => Request::Teardown,
        Type::Accept => Request::Accept(part(call.accept, "accept")?),
        Type::Decline => Request::Decline(part(call.decline, "decline")?),
        Type::AcceptInverseOffers => {
            Request::AcceptInverse(part(call.accept_inverse_offers, "accept_inverse_offers")?)
        }
        Type::DeclineInverseOffers => {
            Request::DeclineInverse(part(call.decline_inverse_offers, "decline_inverse_offers")?)
        }
        Type::Revive => Request::Revive(call.revive.unwrap_or_default().roles),
        Type::Suppress => Request::Suppress(call.suppress.unwrap_or_default().roles),
        Type::Kill => Request::Kill(part(call.kill, "kill")?),
        Type::Shutdown => Request::Shutdown(part(call.shutdown, "shutdown")?),
        Type::Acknowledge => {
            let acknowledge = part(call.acknowledge, "acknowledge")?;
            check_uuid(&acknowledge.uuid)?;
            Request::Acknowledge(acknowledge)
        }
        Type::Reconcile => Request::Reconcile(part(call.reconcile, "reconcile")?),
        Type::ReconcileOperations => {
            Request::ReconcileOperations(part(call.reconcile_operations, "reconcile_operations")?)
        }
        Type::UpdateFramework => {
            let update = part(call.update_framework, "update_framework")?;
            check_same_id(&call.framework_id, &update.framework_info.id, "update_framework")?;
            Request::UpdateFramework(Box::new(update))
        }
        _ => Request::Ignored(check_ignored(call, kind)?),
    };
    Ok(Asked::Other(framework, request))
}

/// Calls about what does not exist here: operations to be
/// acknowledged, executors to talk to. Returns the counter that tells of them.
fn check_ignored(call: Call, kind: Type) -> Result<&'static str, Refusal> {
    Ok(match kind {
        Type::AcknowledgeOperationStatus => {
            let name = "acknowledge_operation_status";
            let acknowledge = part(call.acknowledge_operation_status, name)?;
            check_uuid(&acknowledge.uuid)?;
            part(acknowledge.agent_id, "agent_id")?;
            "invalid_operation_status_update_acknowledgements"
        }
        Type::Message => {
            part(call.message, "message")?;
            "invalid_framework_to_executor_messages"
        }
        Type::Request => {
            part(call.request, "request")?;
            "messages_resource_request"
        }
        _ => return Err(Refusal::new(501, "Received a call of an unknown type")),
    })
}

fn part<T>(part: Option<T>, name: &str) -> Result<T, Refusal> {
    part.ok_or_else(|| Refusal::absent(name))
}

/// Two places name the framework; they have to agree.
fn check_same_id(
    call: &Option<v1::FrameworkId>,
    info: &Option<v1::FrameworkId>,
    name: &str,
) -> Result<(), Refusal> {
    if call == info {
        return Ok(());
    }
    let differs = format_args!("'framework_id' differs from '{name}.framework_info.id'");
    Err(Refusal::form(differs))
}

fn check_uuid(uuid: &[u8]) -> Result<(), Refusal> {
    if uuid.len() == UUID_BYTES {
        return Ok(());
    }
    let bytes = uuid.len();
    Err(Refusal::form(format_args!("'uuid' must have {UUID_BYTES} bytes, this one has {bytes}")))
}
