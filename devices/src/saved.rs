//! The byte form in which a function on a bus keeps the state that the bus does not know.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// `state` in bytes.
pub(crate) fn to_bytes(state: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(state).expect("device states are plain data, which always serialises")
}

/// The state again; `None` if these bytes are of something else (hostile input).
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}
