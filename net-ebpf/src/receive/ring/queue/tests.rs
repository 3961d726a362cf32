//! Both rings on plain memory, with a second hand that plays the kernel.

use super::*;
use memmap2::MmapOptions;
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::collections::VecDeque;

const COUNT: u32 = 8;
const OFFSETS: XdpRingOffset =
    XdpRingOffset { producer: 0, consumer: 64, flags: Some(128), desc: 192 };

fn memory(words: usize) -> MmapRaw {
    let size = size(&OFFSETS, COUNT, words).unwrap();
    MmapRaw::from(MmapOptions::new().len(size).map_anon().unwrap())
}

/// One ring in two places of this process, as the kernel and we see it; its indexes stand at
/// `start`.
fn pair(words: usize, start: u32) -> [Queue; 2] {
    let size = size(&OFFSETS, COUNT, words).unwrap();
    let file = memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, size as u64).unwrap();
    let pair = [(); 2].map(|()| {
        let map = MmapOptions::new().len(size).map_raw(&file).unwrap();
        Queue::new(map, &OFFSETS, COUNT, words).unwrap()
    });
    for index in [pair[0].producer, pair[0].consumer] {
        pair[0].indexes()[index].store(start, Ordering::Relaxed);
    }
    pair
}

fn rx(start: u32) -> (RxQueue, Queue) {
    let [ours, kernels] = pair(RX_WORDS, start);
    (RxQueue::new(ours), kernels)
}

fn fill(start: u32) -> (FillQueue, Queue) {
    let [ours, kernels] = pair(FILL_WORDS, start);
    (FillQueue::new(ours), kernels)
}

/// The kernel's side of the rx ring.
fn produce(queue: &Queue, descriptor: Descriptor) {
    let number = queue.indexes()[queue.producer].load(Ordering::Relaxed);
    let consumed = queue.indexes()[queue.consumer].load(Ordering::Acquire);
    assert!(number.wrapping_sub(consumed) < COUNT, "as many entries as frames");
    let entry = queue.entry(number);
    entry[0].store(descriptor.address, Ordering::Relaxed);
    // Options that nobody asked for stand beside the size.
    let (size, options) = (descriptor.size as u64, 0xffff_ffff);
    let little = cfg!(target_endian = "little");
    let word = if little { options << 32 | size } else { size << 32 | options };
    entry[1].store(word, Ordering::Relaxed);
    queue.indexes()[queue.producer].store(number.wrapping_add(1), Ordering::Release);
}

/// The kernel's side of the fill ring.
fn consume(queue: &Queue) -> Option<u64> {
    let number = queue.indexes()[queue.consumer].load(Ordering::Relaxed);
    if number == queue.indexes()[queue.producer].load(Ordering::Acquire) {
        return None;
    }
    let frame = queue.entry(number)[0].load(Ordering::Relaxed);
    queue.indexes()[queue.consumer].store(number.wrapping_add(1), Ordering::Release);
    Some(frame)
}

#[test]
fn a_packet_is_read_and_its_entry_released() {
    let (mut rx, kernel) = rx(0);
    assert_eq!(rx.available(), 0);
    let descriptor = Descriptor { address: 0x1_2345_6789, size: 0xfedc_ba98 };
    produce(&kernel, descriptor);
    assert_eq!((rx.available(), rx.read(0)), (1, descriptor));
    rx.release(1);
    assert_eq!(rx.available(), 0);
    assert_eq!(kernel.indexes()[kernel.consumer].load(Ordering::Relaxed), 1);
    assert_eq!(rx.memory_bytes(), 192 + 8 * 16);
}

#[test]
#[should_panic(expected = "fills no more than the ring holds")]
fn more_packets_than_entries_stop_the_process() {
    let (rx, kernel) = rx(0);
    kernel.indexes()[kernel.producer].store(COUNT + 1, Ordering::Relaxed);
    rx.available();
}

#[test]
#[should_panic(expected = "fills no more than the ring holds")]
fn an_index_that_goes_back_stops_the_process() {
    let (rx, kernel) = rx(5);
    kernel.indexes()[kernel.producer].store(4, Ordering::Relaxed);
    rx.available();
}

#[test]
#[should_panic(expected = "no more frames than there are")]
fn more_frames_than_entries_stop_the_process() {
    fill(0).0.push(0..u64::from(COUNT) + 1);
}

#[test]
fn the_wakeup_flag_is_seen() {
    let (fill, kernel) = fill(0);
    assert!(!fill.needs_wakeup());
    kernel.indexes()[kernel.flags].store(2, Ordering::Relaxed);
    assert!(!fill.needs_wakeup());
    kernel.indexes()[kernel.flags].store(3, Ordering::Relaxed);
    assert!(fill.needs_wakeup());
}

#[test]
fn places_that_do_not_fit_are_refused() {
    let refused = |offsets: XdpRingOffset| {
        let error = Queue::new(memory(RX_WORDS), &offsets, COUNT, RX_WORDS).err().unwrap();
        error.kind()
    };
    for offsets in [
        XdpRingOffset { producer: 190, ..OFFSETS },
        XdpRingOffset { consumer: 192, ..OFFSETS },
        XdpRingOffset { flags: Some(1 << 20), ..OFFSETS },
        XdpRingOffset { desc: 200, ..OFFSETS },
        XdpRingOffset { desc: 188, ..OFFSETS },
        XdpRingOffset { desc: u64::MAX, ..OFFSETS },
    ] {
        assert_eq!(refused(offsets), io::ErrorKind::InvalidData, "{offsets:?}");
    }
    let old = XdpRingOffset { flags: None, ..OFFSETS };
    assert_eq!(refused(old), io::ErrorKind::Unsupported);
}

#[test]
fn two_threads_pass_everything_on_in_order() {
    const TOTAL: usize = 20_000;
    let (mut rx, rx_kernel) = rx(u32::MAX - 1_000);
    let (mut fill, fill_kernel) = fill(u32::MAX - 1_000);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for size in 0..TOTAL {
                let address = loop {
                    if let Some(frame) = consume(&fill_kernel) {
                        break frame;
                    }
                    std::thread::yield_now();
                };
                produce(&rx_kernel, Descriptor { address, size });
            }
        });
        fill.push(0..u64::from(COUNT));
        let mut number = 0;
        while number < TOTAL {
            let available = rx.available();
            let frames: Vec<u64> = (0..available)
                .map(|place| {
                    let descriptor = rx.read(place);
                    assert_eq!(descriptor.size, number);
                    number += 1;
                    descriptor.address
                })
                .collect();
            rx.release(available);
            fill.push(frames.into_iter());
            std::thread::yield_now();
        }
    });
}

proptest! {
    /// Random steps of both sides against two plain queues, from any start of the indexes.
    #[test]
    fn the_rings_are_queues(
        start in prop_oneof![Just(0_u32), Just(u32::MAX - 3), any::<u32>()],
        steps in prop::collection::vec((0..4_u8, 1..=COUNT as usize), 1..200),
    ) {
        let ((mut rx, rx_kernel), (mut fill, fill_kernel)) = (rx(start), fill(start));
        let (mut packets, mut free) = (VecDeque::new(), VecDeque::new());
        // Where each frame is: in the fill ring, with the kernel, in the rx ring, with us.
        let (mut kernel, mut ours) = (Vec::new(), (0..u64::from(COUNT)).collect::<Vec<_>>());
        for (step, count) in steps {
            match step {
                0 => {
                    let count = count.min(ours.len());
                    free.extend(ours[..count].iter().copied());
                    fill.push(ours.drain(..count));
                }
                1 => {
                    let frame = consume(&fill_kernel);
                    prop_assert_eq!(frame, free.pop_front());
                    kernel.extend(frame);
                }
                2 => {
                    if let Some(frame) = kernel.pop() {
                        let descriptor = Descriptor { address: frame, size: count };
                        produce(&rx_kernel, descriptor);
                        packets.push_back(descriptor);
                    }
                }
                _ => {
                    prop_assert_eq!(rx.available(), packets.len());
                    let count = count.min(packets.len());
                    for place in 0..count {
                        let descriptor = rx.read(place);
                        prop_assert_eq!(Some(descriptor), packets.pop_front());
                        ours.push(descriptor.address);
                    }
                    rx.release(count);
                }
            }
        }
    }
}
