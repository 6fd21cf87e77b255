//! `/gatewayz` and `/leafz`: the shape they have on a server that has neither gateways nor leaf nodes.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_jsapi::time::Time;

use crate::{
    Source,
    connz::Detail,
    query::{Query, Refused},
};

#[derive(Serialize)]
pub(crate) struct Gatewayz {
    server_id: String,
    now: Time,
    outbound_gateways: BTreeMap<String, ()>,
    inbound_gateways: BTreeMap<String, ()>,
}

pub(crate) fn gatewayz(source: &dyn Source, query: &Query) -> Result<Gatewayz, Refused> {
    Detail::of(query)?;
    query.boolean("accs")?;
    let server = source.server();
    Ok(Gatewayz {
        server_id: server.settings.server_id,
        now: server.now,
        outbound_gateways: BTreeMap::new(),
        inbound_gateways: BTreeMap::new(),
    })
}

#[derive(Serialize)]
pub(crate) struct Leafz {
    server_id: String,
    now: Time,
    leafnodes: u64,
    leafs: Vec<()>,
}

pub(crate) fn leafz(source: &dyn Source, query: &Query) -> Result<Leafz, Refused> {
    query.boolean("subs")?;
    let server = source.server();
    Ok(Leafz { server_id: server.settings.server_id, now: server.now, leafnodes: 0, leafs: Vec::new() })
}
