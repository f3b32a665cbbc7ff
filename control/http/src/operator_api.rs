//! The operator's calls to the master: `/api/v1`, and the older endpoints about maintenance,
//! each of which is one of those calls.

use crate::core::OperatorReply;
use crate::encoding::Encoding;
use crate::error::HttpError;
use crate::routes::{App, read_body};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mizzen_api::v1::MachineId;
use mizzen_api::v1::maintenance::Schedule;
use mizzen_api::v1::master::{self, Call, call, call::Type};
use std::net::IpAddr;

/// POST of a call, in either encoding.
pub async fn call(State(app): State<App>, request: Request) -> Result<Response, HttpError> {
    let (parts, body) = request.into_parts();
    let encoding = Encoding::of_body(&parts.headers)?;
    let body = read_body(body, app.limits.call_body, app.limits.body_wait).await?;
    let call: Call = encoding.decode(&body, "master::Call")?;
    let answer_in = Encoding::to_answer_in(&parts.headers)?;
    let Some(response) = ask(&app, call).await? else { return Ok(StatusCode::OK.into_response()) };
    let body = answer_in.encode(&response).ok_or(HttpError::Answer)?;
    let kind = HeaderValue::from_static(answer_in.media_type());
    Ok(([(CONTENT_TYPE, kind)], body).into_response())
}

/// GET of the maintenance schedule.
pub async fn schedule(State(app): State<App>) -> Result<Response, HttpError> {
    let answer = ask(&app, plain(Type::GetMaintenanceSchedule)).await?;
    let part = answer.and_then(|answer| answer.get_maintenance_schedule);
    Ok(Json(part.ok_or(HttpError::Answer)?.schedule).into_response())
}

/// POST of a maintenance schedule, in the place of the one before.
pub async fn set_schedule(State(app): State<App>, body: Body) -> Result<Response, HttpError> {
    let schedule: Schedule = read(&app, body, "maintenance::Schedule").await?;
    let part = Some(call::UpdateMaintenanceSchedule { schedule });
    let call = plain(Type::UpdateMaintenanceSchedule);
    done(&app, Call { update_maintenance_schedule: part, ..call }).await
}

/// GET of which machines are down, or to be left.
pub async fn status(State(app): State<App>) -> Result<Response, HttpError> {
    let answer = ask(&app, plain(Type::GetMaintenanceStatus)).await?;
    let part = answer.and_then(|answer| answer.get_maintenance_status);
    Ok(Json(part.ok_or(HttpError::Answer)?.status).into_response())
}

/// POST of a list of machines that go down.
pub async fn down(State(app): State<App>, body: Body) -> Result<Response, HttpError> {
    let machines: Vec<MachineId> = read(&app, body, "list of MachineID").await?;
    let part = Some(call::StartMaintenance { machines });
    done(&app, Call { start_maintenance: part, ..plain(Type::StartMaintenance) }).await
}

/// POST of a list of machines that are back.
pub async fn up(State(app): State<App>, body: Body) -> Result<Response, HttpError> {
    let machines: Vec<MachineId> = read(&app, body, "list of MachineID").await?;
    let part = Some(call::StopMaintenance { machines });
    done(&app, Call { stop_maintenance: part, ..plain(Type::StopMaintenance) }).await
}

/// POST of the addresses of agents that are gone for good, in the form of DC/OS' overlay
/// modules: `{"agents":["10.0.3.46"]}`.
pub async fn delete_overlay_agents(
    State(app): State<App>,
    body: Body,
) -> Result<Response, HttpError> {
    #[derive(serde::Deserialize)]
    struct Agents {
        agents: Vec<IpAddr>,
    }
    let Agents { agents } = read(&app, body, "list of agents").await?;
    let reply = app.core.delete_overlay_agents(agents, app.limits.reply_wait).await?;
    understood(reply).map(|_| StatusCode::OK.into_response())
}

fn plain(kind: Type) -> Call {
    Call { r#type: Some(kind.into()), ..Call::default() }
}

/// JSON, whatever its content type says: these endpoints know nothing else.
async fn read<T: serde::de::DeserializeOwned>(
    app: &App,
    body: Body,
    name: &'static str,
) -> Result<T, HttpError> {
    let body = read_body(body, app.limits.call_body, app.limits.body_wait).await?;
    mizzen_api::codec::from_json(&body).map_err(|error| HttpError::Decode { name, error })
}

async fn done(app: &App, call: Call) -> Result<Response, HttpError> {
    ask(app, call).await.map(|_| StatusCode::OK.into_response())
}

async fn ask(app: &App, call: Call) -> Result<Option<master::Response>, HttpError> {
    understood(app.core.operator(Box::new(call), app.limits.reply_wait).await?)
}

fn understood(reply: OperatorReply) -> Result<Option<master::Response>, HttpError> {
    match reply {
        OperatorReply::Done => Ok(None),
        OperatorReply::Answer(response) => Ok(Some(*response)),
        OperatorReply::Refused { status, text } => {
            let status = StatusCode::from_u16(status).map_err(|_| HttpError::Answer)?;
            Err(HttpError::Refused { status, text })
        }
    }
}
