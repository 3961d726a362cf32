//! Segment files as bytes: where their groups lie, and how to change them.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// What every group begins with, where its payload's length stands, and what surrounds the payload.
const GROUP_MAGIC: &[u8; 8] = b"althgrp\n";
const GROUP_LENGTH: usize = 96;
const GROUP_HEADER: usize = 136;
const GROUP_OVERHEAD: usize = GROUP_HEADER + 32;
const ALIGN: usize = 4_096;

/// A seeded sequence of numbers. Source: SplitMix64, Steele, Lea and Flood 2014, figure 16.
pub struct Lots(pub u64);

impl Lots {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut lot = self.0;
        lot = (lot ^ (lot >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        lot = (lot ^ (lot >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        lot ^ (lot >> 31)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("64 bits");
        usize::try_from(self.draw() % limit).expect("below a usize")
    }

    /// A change of a byte that is one.
    pub fn change(&mut self) -> u8 {
        1 + u8::try_from(self.draw() % 255).expect("below 255")
    }
}

/// One segment file.
pub struct Segment {
    /// Its number.
    pub number: usize,
    file: File,
    /// Its bytes when it was opened.
    pub bytes: Vec<u8>,
    /// Where each group begins.
    pub groups: Vec<usize>,
    /// Where the last one ends.
    pub used: usize,
}

impl Segment {
    /// Reads a file and finds its groups.
    pub fn open(number: usize, path: &Path) -> Self {
        let bytes = fs::read(path).expect("a segment");
        let file = OpenOptions::new().read(true).write(true).open(path).expect("a copy");
        let (mut groups, mut used) = (Vec::new(), 0);
        while bytes[used..].starts_with(GROUP_MAGIC) {
            groups.push(used);
            let field = &bytes[used + GROUP_LENGTH..used + GROUP_LENGTH + 8];
            let length = u64::from_le_bytes(field.try_into().expect("8 bytes"));
            let length = usize::try_from(length).expect("in a file");
            used += (GROUP_OVERHEAD + length).next_multiple_of(ALIGN);
        }
        Self { number, file, bytes, groups, used }
    }

    /// The group that holds a used byte; the end of all for an unused one.
    pub fn group_of(&self, offset: usize) -> usize {
        if offset >= self.used {
            return self.used;
        }
        *self.groups.iter().rev().find(|group| **group <= offset).expect("the first is at 0")
    }

    /// Changes a byte for good.
    pub fn flip(&self, offset: usize, change: u8) {
        let at = u64::try_from(offset).expect("64 bits");
        self.file.write_all_at(&[self.bytes[offset] ^ change], at).expect("it can be written");
    }

    /// Writes zeros for good.
    pub fn wipe(&self, offset: usize, bytes: usize) {
        let at = u64::try_from(offset).expect("64 bits");
        self.file.write_all_at(&vec![0; bytes], at).expect("it can be written");
    }

    /// Changes a byte while something is called.
    pub fn with_flip<T>(&self, offset: usize, change: u8, call: impl FnOnce() -> T) -> T {
        let at = u64::try_from(offset).expect("64 bits");
        let old = self.bytes[offset];
        self.file.write_all_at(&[old ^ change], at).expect("the copy can be written");
        let result = call();
        self.file.write_all_at(&[old], at).expect("the copy can be written");
        result
    }
}
