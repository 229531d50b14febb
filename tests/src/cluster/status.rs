//! The objects by which the server says that something went wrong.

use serde_json::{Value, json};

/// A refusal, as the API server puts it.
pub(super) fn failure(code: u16, message: &str) -> Value {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code
    })
}

/// The version that a watch wanted to go on from is forgotten.
pub(super) fn too_old(version: u64, oldest: u64) -> Value {
    failure(410, &format!("too old resource version: {version} ({oldest})"))
}
