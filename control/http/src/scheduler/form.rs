//! The form of a call: which parts it must have, whatever the master knows.

use crate::error::HttpError;
use mizzen_api::v1::scheduler::{Call, call::Type};

/// Bytes of a UUID.
const UUID_BYTES: usize = 16;

/// Checks the form and returns the type. A RECONCILE without its body asks for
/// everything, so it gets an empty one.
pub fn check(call: &mut Call) -> Result<Type, HttpError> {
    let number = call.r#type.ok_or_else(|| absent("type"))?;
    let kind = Type::try_from(number).unwrap_or(Type::Unknown);
    if kind == Type::Reconcile {
        call.reconcile.get_or_insert_default();
    }
    if kind != Type::Subscribe && call.framework_id.is_none() {
        return Err(absent("framework_id"));
    }
    if kind == Type::Unknown {
        return Err(HttpError::UnknownCall);
    }
    if let Some(name) = missing_part(call, kind) {
        return Err(absent(name));
    }
    check_framework_id(call, kind)?;
    check_uuid(call, kind)?;
    Ok(kind)
}

/// The name of the part that belongs to the type and is not there.
fn missing_part(call: &Call, kind: Type) -> Option<&'static str> {
    let (there, name) = match kind {
        Type::Subscribe => (call.subscribe.is_some(), "subscribe"),
        Type::Accept => (call.accept.is_some(), "accept"),
        Type::Decline => (call.decline.is_some(), "decline"),
        Type::AcceptInverseOffers => {
            (call.accept_inverse_offers.is_some(), "accept_inverse_offers")
        }
        Type::DeclineInverseOffers => {
            (call.decline_inverse_offers.is_some(), "decline_inverse_offers")
        }
        Type::Kill => (call.kill.is_some(), "kill"),
        Type::Shutdown => (call.shutdown.is_some(), "shutdown"),
        Type::Acknowledge => (call.acknowledge.is_some(), "acknowledge"),
        Type::AcknowledgeOperationStatus => {
            (call.acknowledge_operation_status.is_some(), "acknowledge_operation_status")
        }
        Type::Reconcile => (call.reconcile.is_some(), "reconcile"),
        Type::ReconcileOperations => (call.reconcile_operations.is_some(), "reconcile_operations"),
        Type::Message => (call.message.is_some(), "message"),
        Type::Request => (call.request.is_some(), "request"),
        Type::UpdateFramework => (call.update_framework.is_some(), "update_framework"),
        Type::Teardown | Type::Revive | Type::Suppress | Type::Unknown => return None,
    };
    (!there).then_some(name)
}

/// Two places name the framework; they have to agree.
fn check_framework_id(call: &Call, kind: Type) -> Result<(), HttpError> {
    let (info, name) = match kind {
        Type::Subscribe => (call.subscribe.as_ref().map(|part| &part.framework_info), "subscribe"),
        Type::UpdateFramework => {
            (call.update_framework.as_ref().map(|part| &part.framework_info), "update_framework")
        }
        _ => return Ok(()),
    };
    if info.is_some_and(|info| info.id != call.framework_id) {
        let reason = format!("'framework_id' differs from '{name}.framework_info.id'");
        return Err(HttpError::Call { reason });
    }
    Ok(())
}

fn check_uuid(call: &Call, kind: Type) -> Result<(), HttpError> {
    let uuid = match kind {
        Type::Acknowledge => call.acknowledge.as_ref().map(|part| &part.uuid),
        Type::AcknowledgeOperationStatus => {
            let part = call.acknowledge_operation_status.as_ref();
            if part.is_some_and(|part| part.agent_id.is_none()) {
                return Err(absent("agent_id"));
            }
            part.map(|part| &part.uuid)
        }
        _ => return Ok(()),
    };
    match uuid {
        Some(uuid) if uuid.len() != UUID_BYTES => {
            let found = uuid.len();
            let reason = format!("'uuid' must have {UUID_BYTES} bytes, this one has {found}");
            Err(HttpError::Call { reason })
        }
        _ => Ok(()),
    }
}

fn absent(name: &str) -> HttpError {
    HttpError::Call { reason: format!("Expecting '{name}' to be present") }
}
