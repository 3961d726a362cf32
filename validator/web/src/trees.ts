// The two trees of a proof: the Merkle tree with its promoted last node, and the history's mountain range.

import { u32Bytes, u64Bytes } from './bytes.js';
import {
  hashHistoryNode,
  hashHistoryRoot,
  hashMerkleNode,
  hashMerkleRoot,
} from './hash.js';

/** How many siblings the path from leaf `index` of `count` has. */
export function merklePathLength(index: number, count: number): number {
  let length = 0;
  // Division instead of shifts: JavaScript's shifts would take the top bit of a u32 for a sign.
  for (let place = index, width = count; width > 1; ) {
    if (siblingOf(place) < width) length += 1;
    place = Math.floor(place / 2);
    width = Math.ceil(width / 2);
  }
  return length;
}

/** The root of the tree of `count` leaves that has this leaf at `index`. */
export function merkleRoot(
  leaf: Uint8Array,
  index: number,
  count: number,
  path: Uint8Array[],
): Uint8Array {
  let digest = leaf;
  let used = 0;
  for (let place = index, width = count; width > 1; ) {
    if (siblingOf(place) < width) {
      const sibling = path[used]!;
      used += 1;
      digest = place % 2 === 0 ? hashMerkleNode(digest, sibling) : hashMerkleNode(sibling, digest);
    }
    place = Math.floor(place / 2);
    width = Math.ceil(width / 2);
  }
  return hashMerkleRoot(u32Bytes(count), digest);
}

/** The root of a tree without leaves. */
export function emptyMerkleRoot(): Uint8Array {
  return hashMerkleRoot(u32Bytes(0), new Uint8Array(32));
}

function siblingOf(place: number): number {
  return place % 2 === 0 ? place + 1 : place - 1;
}

/** Where a height lies in the mountain range. */
export interface HistoryPlace {
  /** Leaves to the left of it inside its mountain. */
  offset: bigint;
  /** Levels of its mountain above the leaves: its number of siblings. */
  levels: number;
  /** Mountains to the left of its own. */
  peaksLeft: number;
  /** Mountains other than its own. */
  peaksOther: number;
}

/** Finds `height` among the mountains over heights 1 to `count`; 1 <= height <= count. */
export function historyPlace(height: bigint, count: bigint): HistoryPlace {
  let offset = height - 1n;
  let peaks = 0;
  let found: { offset: bigint; levels: number; peaksLeft: number } | undefined;
  for (let levels = 63; levels >= 0; levels -= 1) {
    const size = 1n << BigInt(levels);
    if ((count & size) === 0n) continue;
    if (found === undefined) {
      if (offset < size) found = { offset, levels, peaksLeft: peaks };
      else offset -= size;
    }
    peaks += 1;
  }
  if (found === undefined) throw new RangeError('the height is not in the history');
  return { ...found, peaksOther: peaks - 1 };
}

/** The root of the history of `count` heights that has this leaf at the place. */
export function historyRoot(
  leaf: Uint8Array,
  count: bigint,
  place: HistoryPlace,
  path: Uint8Array[],
  otherPeaks: Uint8Array[],
): Uint8Array {
  let digest = leaf;
  let offset = place.offset;
  for (let level = 0; level < place.levels; level += 1) {
    const sibling = path[level]!;
    digest =
      (offset & 1n) === 0n ? hashHistoryNode(digest, sibling) : hashHistoryNode(sibling, digest);
    offset >>= 1n;
  }
  const left = otherPeaks.slice(0, place.peaksLeft);
  const right = otherPeaks.slice(place.peaksLeft);
  return hashHistoryRoot(u64Bytes(count), ...left, digest, ...right);
}
