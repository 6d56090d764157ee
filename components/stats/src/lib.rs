//! Placeholder.
mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({ world: "stats", path: "../../wit", generate_all });
}
