//! Every maximum of the formats, with its reason and compile-time checks between them.

/// Bytes of a transaction before its body.
pub const TRANSACTION_HEADER_BYTES: usize = 92;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Bytes of a transaction that are not its body: header and signature.
pub const TRANSACTION_OVERHEAD: usize = TRANSACTION_HEADER_BYTES + SIGNATURE_BYTES;

/// Bytes of a whole transaction at most: the 16-bit length covers bodies up to here.
pub const TRANSACTION_BYTES_MAX: usize = 65_536;

/// Bytes of a record's body at most.
pub const TRANSACTION_BODY_BYTES_MAX: usize = TRANSACTION_BYTES_MAX - TRANSACTION_OVERHEAD;

/// Bytes of a transaction in one datagram at most: 1,280 (the MTU that every IPv6 path carries)
/// less 40 of IPv6, 8 of UDP and 48 of our header.
pub const DATAGRAM_TRANSACTION_BYTES_MAX: usize = 1_184;

/// Bytes of a batch body at most: 1,024 transactions of 512 bytes.
pub const BATCH_BODY_BYTES_MAX: usize = 512 * 1024;

/// Bytes of an encoded batch header.
pub const BATCH_HEADER_BYTES: usize = 128;

/// Bytes of an encoded batch at most.
pub const BATCH_BYTES_MAX: usize = BATCH_HEADER_BYTES + SIGNATURE_BYTES + BATCH_BODY_BYTES_MAX;

/// Transactions in a batch at most: as many as fit when every body is empty.
pub const BATCH_TRANSACTIONS_MAX: usize = BATCH_BODY_BYTES_MAX / TRANSACTION_OVERHEAD;

/// Validators in a set at most: with 100, an availability certificate of a quorum of 67 takes
/// 4,356 bytes, and one cut carries 15 of them.
pub const VALIDATORS_MAX: usize = 100;

/// Bytes of an encoded cut at most.
pub const CUT_BYTES_MAX: usize = 65_536;

/// Bytes of a cut before its availability certificates.
pub const CUT_HEADER_BYTES: usize = 240;

/// Bytes of an availability certificate before its signatures.
pub const AVAILABILITY_HEADER_BYTES: usize = 68;

/// Bytes of an availability certificate at most: every validator signed.
pub const AVAILABILITY_BYTES_MAX: usize =
    AVAILABILITY_HEADER_BYTES + VALIDATORS_MAX * SIGNATURE_BYTES;

/// Bytes of an encoded acknowledgement.
pub const ACK_BYTES: usize = 124;

/// Bytes of a finality certificate before its signatures.
pub const FINALITY_HEADER_BYTES: usize = 80;

/// Bytes of a finality certificate at most: every validator signed.
pub const FINALITY_BYTES_MAX: usize = FINALITY_HEADER_BYTES + VALIDATORS_MAX * SIGNATURE_BYTES;

/// Heights that a cut may be ahead of the execution that it declares: an execution may lag some
/// seconds behind the votes before they wait for it.
pub const EXECUTION_LAG_MAX: u64 = 64;

/// Bytes of an outcome list before its entries.
pub const OUTCOMES_HEADER_BYTES: usize = 80;

/// Bytes of one entry of an outcome list: id and outcome.
pub const OUTCOME_BYTES: usize = 33;

/// Heights of an epoch at least: more than an execution may lag, and some for votes.
pub const EPOCH_LENGTH_MIN: u64 = 2 * EXECUTION_LAG_MAX;

/// Heights of an epoch at most: its lanes have fewer than 2^30 batches then, and a vote takes hours, not weeks.
pub const EPOCH_LENGTH_MAX: u64 = 1 << 20;

/// Outcomes of one block at most: the quotas of 100 lanes at their maximum, all bodies empty.
pub const OUTCOMES_MAX: usize = VALIDATORS_MAX * (LANE_QUOTA_BYTES_MAX / TRANSACTION_OVERHEAD);

/// Bytes that a lane may have executed in one block, at most, whatever the genesis says.
pub const LANE_QUOTA_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of an account in the state root and in files: key, balance, sequence and head.
pub const ACCOUNT_BYTES: usize = 80;

/// Bytes of a lane in the state root and in files: two tips and a quota.
pub const LANE_BYTES: usize = 88;

/// Bytes of a checkpoint before its lanes, peaks and roots.
pub const CHECKPOINT_HEADER_BYTES: usize = 104;

/// Bytes of an encoded council at most, with the length of its epochs: two terms, every motion that members can
/// have open, and a newcomer for each.
pub const COUNCIL_BYTES_MAX: usize =
    8 + 2 * (4 + VALIDATORS_MAX * 87 + 40) + 1 + 4 + 4 + 4 * VALIDATORS_MAX * (127 + 16 + 32);

/// Bytes of a checkpoint at most: every lane, a peak for each bit of a height, two roots for each height that a
/// cut may declare, and the council.
pub const CHECKPOINT_BYTES_MAX: usize =
    CHECKPOINT_HEADER_BYTES + VALIDATORS_MAX * LANE_BYTES + 64 * 32 + 65 * 64 + COUNCIL_BYTES_MAX;

/// Siblings on a path of a Merkle proof at most: a tree has fewer than 2^32 leaves.
pub const MERKLE_PATH_MAX: usize = 32;

/// Changes of the validator set that a proof crosses at most.
pub const PROOF_LINKS_MAX: usize = 128;

/// Bytes of a proof at most: the largest transaction, every signature and the longest paths take 77 KB, and each
/// change of a set of 100 takes up to 10 KB.
pub const PROOF_BYTES_MAX: usize = 128 * 1024 + PROOF_LINKS_MAX * 10 * 1024;

/// Bytes of evidence at most: that of a batch with the largest transaction takes 67 KB.
pub const EVIDENCE_BYTES_MAX: usize = 72 * 1024;

/// Accounts in a genesis file at most: they are held in memory by every validator.
pub const GENESIS_ACCOUNTS_MAX: usize = 4 * 1024 * 1024;

/// Bytes of a network's name at most: it stands on one line of a terminal.
pub const GENESIS_NAME_BYTES_MAX: usize = 64;

const _: () = assert!(TRANSACTION_OVERHEAD == 156);
const _: () = assert!(TRANSACTION_BODY_BYTES_MAX <= 0xffff);
const _: () = assert!(DATAGRAM_TRANSACTION_BYTES_MAX == 1_280 - 40 - 8 - 48);
const _: () = assert!(DATAGRAM_TRANSACTION_BYTES_MAX > TRANSACTION_OVERHEAD);
const _: () = assert!(TRANSACTION_BYTES_MAX <= BATCH_BODY_BYTES_MAX);
const _: () = assert!(BATCH_BODY_BYTES_MAX <= LANE_QUOTA_BYTES_MAX);
const _: () = assert!(VALIDATORS_MAX <= 128, "signers are a bitmap of 128 bits");
const _: () = assert!(CUT_HEADER_BYTES + AVAILABILITY_BYTES_MAX <= CUT_BYTES_MAX);
const _: () = assert!(EXECUTION_LAG_MAX + 1 == 65, "a checkpoint has the roots of as many heights");
const _: () = assert!(OUTCOMES_MAX < 1 << 32, "counts and Merkle indices have 32 bits");
const _: () =
    assert!(EPOCH_LENGTH_MIN > EXECUTION_LAG_MAX, "who follows is decided within the epoch");
const _: () = assert!(EXECUTION_LAG_MAX > 0, "a block declares a height below its own");
