//! Bindings of the interfaces that this library imports. Components map their own bindings to these.
#![allow(missing_docs)]

wit_bindgen::generate!({ world: "shared", path: "../../wit", generate_all });
