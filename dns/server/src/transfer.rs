//! Whole zones, as AXFR has them (RFC 5936).

use crate::reply::Reply;
use crate::shared::SharedZones;
use hickory_proto::op::Query;
use hickory_server::server::Request;

/// A zone on its way to one client.
#[derive(Debug)]
pub(crate) struct Transfer {}

impl Transfer {
    pub(crate) fn new(_zones: &SharedZones, _request: &Request, _query: &Query) -> Option<Self> {
        None
    }

    pub(crate) fn start(&self, request: &Request) -> Reply {
        Reply::to(request, hickory_proto::op::ResponseCode::Refused)
    }

    pub(crate) fn next_message(&mut self, _zones: &SharedZones) -> Option<Vec<u8>> {
        None
    }
}
