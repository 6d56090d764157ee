//! A component that handles messages.

use std::sync::Arc;

use queue::Message;

use super::bindings::MessagesPre;
use super::bindings::wasmcloud::messaging::types::BrokerMessage;
use crate::capabilities::{Answer, Handled, HasStates as _};
use crate::engine::{Component, InstanceState, Outline};
use crate::error::Failure;
use crate::invocation::{Caller, RequestIds, Stop};
use crate::triggers::call::call;

/// What a component exports.
pub(super) const INTERFACE: &str = "wasmcloud:messaging/handler@0.2";

/// A component that handles messages.
pub(crate) struct MessageHandler {
    component: Arc<Component>,
    pre: MessagesPre<InstanceState>,
}

/// Checks that a component exports a handler of messages.
pub(super) fn check(id: &str, outline: &Outline) -> anyhow::Result<()> {
    let is_handler = |export: &String| export.starts_with("wasmcloud:messaging/handler");
    anyhow::ensure!(outline.exports.iter().any(is_handler), no_handler(id));
    Ok(())
}

fn no_handler(id: &str) -> String {
    format!("component {id} exports no handler of messages, {INTERFACE}")
}

impl MessageHandler {
    /// Creates the handler of a component.
    ///
    /// # Errors
    /// When the component exports no handler of messages.
    pub(super) fn new(component: &Arc<Component>) -> anyhow::Result<Self> {
        let pre = MessagesPre::new(component.pre().clone());
        Ok(Self {
            pre: pre.map_err(|_| anyhow::anyhow!(no_handler(&component.target().id)))?,
            component: Arc::clone(component),
        })
    }

    pub(super) fn component(&self) -> &Arc<Component> {
        &self.component
    }

    /// Handles one message. The component sends the answer, if any.
    pub(super) async fn handle(
        &self,
        ids: RequestIds,
        message: Message,
        answer: Option<Arc<Answer>>,
    ) -> Result<(), Failure> {
        let target = self.component.target();
        if message.body.len() as u64 > target.limits.request_body.as_u64() {
            return Err(target.failure(Stop::BodyTooLarge));
        }
        let handled = Handled {
            headers: message.headers,
            answer,
        };
        let message = BrokerMessage {
            subject: message.subject,
            body: message.body.into(),
            reply_to: message.reply_to,
        };
        let called = call(
            &self.component,
            ids,
            Caller::Queue,
            async |store| self.pre.instantiate_async(store).await,
            async |store, instance| {
                store.data_mut().states().0.messaging.handle(handled);
                let handler = instance.wasmcloud_messaging_handler();
                handler.call_handle_message(store, &message).await
            },
        );
        called.await
    }
}
