//! A remote procedure call in the words of OpenTelemetry's RPC conventions, for spans and log
//! records alike.

use std::borrow::Cow;

use opentelemetry::Value;

use super::attributes::text;
use crate::aggregation::RpcNames;
use crate::attribution::Call;
use crate::protocol::exchange::UNKNOWN;
use crate::protocol::exchange::rpc::{CODES, Rpc, code_text, split_method};
use crate::protocol::route::OTHER_METHOD;

type Attributes = Vec<(&'static str, Value)>;

/// What was called and how it ended.
pub(crate) fn attributes(call: &Call, rpc: &Rpc, names: RpcNames) -> Attributes {
    let mut list = Vec::with_capacity(8);
    if names.stable() {
        stable(call, rpc, &mut list);
    }
    if names.deprecated() {
        deprecated(call, rpc, names, &mut list);
    }
    let counts = [
        ("meshtap.rpc.request_messages", rpc.request_messages),
        ("meshtap.rpc.response_messages", rpc.response_messages),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            list.push((name, Value::I64(i64::try_from(count).unwrap_or(i64::MAX))));
        }
    }
    // An answer that was not gRPC's, or not all of it.
    if let (None, Some(status)) = (rpc.status, call.exchange.status) {
        list.push(("http.response.status_code", Value::I64(status.into())));
    }
    list
}

fn stable(call: &Call, rpc: &Rpc, list: &mut Attributes) {
    list.push(("rpc.system.name", Value::from(rpc.system.name())));
    list.push(("rpc.method", Value::String(text(&call.route))));
    if &*call.route == OTHER_METHOD
        && let Some(original) = call.exchange.rpc_method()
    {
        list.push(("rpc.method_original", Value::from(original.to_owned())));
    }
    if let Some(code) = rpc.status {
        list.push(("rpc.status_code", of(code_text(code))));
    }
}

fn deprecated(call: &Call, rpc: &Rpc, names: RpcNames, list: &mut Attributes) {
    list.push(("rpc.system", Value::from(rpc.system.deprecated_name())));
    let (service, method) = split_method(&call.route);
    if !service.is_empty() {
        list.push(("rpc.service", Value::from(service.to_owned())));
    }
    if !names.stable() {
        list.push(("rpc.method", Value::from(method.to_owned())));
    }
    if let Some(code) = rpc.status.filter(|code| (*code as usize) < CODES.len()) {
        list.push(("rpc.grpc.status_code", Value::I64(code.into())));
    }
}

/// `package.Service/Method`; the system where that is not known, or is one of many.
pub(super) fn name(call: &Call, rpc: &Rpc) -> Cow<'static, str> {
    match &*call.route {
        OTHER_METHOD | UNKNOWN | "" => Cow::Borrowed(rpc.system.name()),
        method => Cow::Owned(method.to_owned()),
    }
}

fn of(text: Cow<'static, str>) -> Value {
    match text {
        Cow::Borrowed(text) => Value::from(text),
        Cow::Owned(text) => Value::from(text),
    }
}
