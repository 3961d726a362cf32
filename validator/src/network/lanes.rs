//! Lane messages over any network: from the stage to peers, from peers to the stage.

use crate::{
    cost::{Cost, Meter},
    held::{Held, SharedBytes},
    lane::To,
    message::Control,
};
use bytes::Bytes;
use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::Spawner;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Channels of the lane network: batches, and small messages about them.
pub struct Channels<S, R> {
    /// Batches.
    pub batches: (S, R),
    /// Acks, certificates, requests.
    pub control: (S, R),
}

/// A message from the lane stage to peers.
pub enum Outgoing {
    /// A small message.
    Control(To, Control),
    /// A batch.
    Batch(To, Arc<Held>),
    /// A batch for one validator, as the store has it.
    Stored(u32, Vec<u8>),
}

/// Takes what peers send; must not wait.
pub trait Incoming: Clone + Send + 'static {
    /// What counts the costs of handing it over.
    fn meter(&self) -> Meter {
        Meter::OFF
    }
    /// A batch from the validator with this index.
    fn batch(&self, from: u32, bytes: Vec<u8>);
    /// A small message.
    fn control(&self, from: u32, bytes: Vec<u8>);
}

/// Moves messages both ways until either side ends; `keys` are the validators in order.
pub fn start<E, S, R>(
    context: &E,
    keys: Arc<[PublicKey]>,
    channels: Channels<S, R>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    incoming: impl Incoming,
) where
    E: Spawner,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (mut batch_sender, mut batch_receiver) = channels.batches;
    let (mut control_sender, mut control_receiver) = channels.control;
    let peers = keys.clone();
    context.child("lane_send").spawn(move |_| async move {
        let recipients = |to: To| match to {
            To::All => Some(Recipients::All),
            To::One(index) => peers.get(index as usize).cloned().map(Recipients::One),
        };
        // What cannot be sent now is sent again by the stage, or fetched by the peer.
        while let Some(message) = outgoing.recv().await {
            match message {
                Outgoing::Control(to, control) => {
                    let Some(to) = recipients(to) else { continue };
                    // Nothing waits for evidence, and it is long.
                    let is_urgent = !matches!(control, Control::Evidence(_));
                    let _ = control_sender.send(to, Bytes::from(control.encode()), is_urgent);
                }
                Outgoing::Stored(to, bytes) => {
                    let Some(to) = recipients(To::One(to)) else { continue };
                    let _ = batch_sender.send(to, Bytes::from(bytes), false);
                }
                Outgoing::Batch(to, held) => {
                    let Some(to) = recipients(to) else { continue };
                    let _ = batch_sender.send(to, Bytes::from_owner(SharedBytes(held)), false);
                }
            }
        }
    });
    let (peers, sink) = (keys.clone(), incoming.clone());
    context.child("lane_batches").spawn(move |_| async move {
        while let Ok((from, message)) = batch_receiver.recv().await {
            if let Some(from) = index(&peers, &from) {
                let bytes = sink.meter().aside(Cost::Copy, || message.as_ref().to_vec());
                sink.batch(from, bytes);
            }
        }
    });
    context.child("lane_control").spawn(move |_| async move {
        while let Ok((from, message)) = control_receiver.recv().await {
            if let Some(from) = index(&keys, &from) {
                incoming.control(from, message.as_ref().to_vec());
            }
        }
    });
}

/// Moves messages about stored records both ways until either side ends.
pub fn start_records<E, S, R>(
    context: &E,
    keys: Arc<[PublicKey]>,
    (mut sender, mut receiver): (S, R),
    mut outgoing: mpsc::Receiver<(u32, Vec<u8>)>,
    incoming: impl Fn(u32, Vec<u8>) + Send + 'static,
) where
    E: Spawner,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let peers = keys.clone();
    context.child("records_send").spawn(move |_| async move {
        while let Some((to, bytes)) = outgoing.recv().await {
            let Some(to) = peers.get(to as usize).cloned() else { continue };
            // What cannot be sent is asked for again.
            let _ = sender.send(Recipients::One(to), Bytes::from(bytes), false);
        }
    });
    context.child("records").spawn(move |_| async move {
        while let Ok((from, message)) = receiver.recv().await {
            if let Some(from) = index(&keys, &from) {
                incoming(from, message.as_ref().to_vec());
            }
        }
    });
}

/// The place of a validator in the set.
fn index(keys: &[PublicKey], from: &PublicKey) -> Option<u32> {
    keys.binary_search(from).ok().and_then(|index| u32::try_from(index).ok())
}
