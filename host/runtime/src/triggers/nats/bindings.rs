//! The host's side of `wasmcloud:messaging/handler`.
#![allow(missing_docs)]

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "package host:nats; world messages { export wasmcloud:messaging/handler@0.2.0; }",
    world: "host:nats/messages",
    exports: { default: async },
});
