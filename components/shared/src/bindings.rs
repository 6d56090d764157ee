//! What the functions of this library import, and the types of it. Components map their own bindings to these.
#![allow(missing_docs)]

wit_bindgen::generate!({ world: "shared", path: "../../wit", generate_all });
