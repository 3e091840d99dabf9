//! The line between the two: what the active's sender knows of the spool, and what becomes of a parcel.
//!
//! What the sender knows and decides is its own [`Known`]; the receiver's rules are followed without its
//! sockets: what is not newer than what stands in the spool or was accepted is refused. A test may break
//! any of it.

use std::collections::VecDeque;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use pefo_cli::pipeline::push;
use pefo_cli::pipeline::watch::{Known, Parcel, Standing};
use pefo_core::ack::Ack;
use pefo_core::disk::Beneath;
use pefo_core::generation::{DataSet, Payload, Position, spool};
use pefo_core::{Digest, Error, RelPath};

use crate::pair::{PASSIVE, certname};
use crate::source::View;

/// A generation as it stands in a spool.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    pub(crate) position: Position,
    document: Vec<u8>,
    form: Form,
    /// What it makes of the source, where that is known.
    pub(crate) view: Option<View>,
}

#[derive(Debug, Clone)]
enum Form {
    Batch(Vec<u8>),
    Full(Vec<(RelPath, Vec<u8>)>),
}

/// What the sender knows, and what is on its way.
pub(crate) struct Line {
    pub(crate) known: Known,
    pub(crate) wants_full: bool,
    pub(crate) queue: VecDeque<Parcel>,
    /// The sender believes that they have arrived.
    pub(crate) late: Vec<Landed>,
    pub(crate) arrived: Vec<Landed>,
    /// The source is behind its peer, and sends nothing any more.
    pub(crate) is_stopped: bool,
}

impl Landed {
    /// What a parcel is in the spool; `None` where a file of it is another by now, which the receiver
    /// refuses.
    pub(crate) fn of(parcel: &Parcel) -> Option<Self> {
        let outgoing = &parcel.outgoing;
        let form = match &outgoing.payload {
            Payload::Batch(payload) => Form::Batch(spool::join_batch(&outgoing.document, payload)),
            files => {
                let mut read = Vec::new();
                for file in &outgoing.manifest.files {
                    let mut bytes = Vec::new();
                    let mut open = files.open(&file.path).ok()?;
                    open.read_to_end(&mut bytes).unwrap();
                    if Digest::of(&bytes) != file.blake3 {
                        return None;
                    }
                    read.push((file.path.clone(), bytes));
                }
                Form::Full(read)
            }
        };
        Some(Self {
            position: outgoing.position(),
            document: outgoing.document.clone(),
            form,
            view: None,
        })
    }

    /// Writes it, as it is, whatever stands there.
    pub(crate) fn write(&self, spool_dir: &Path) {
        let dir = generations(spool_dir);
        std::fs::create_dir_all(&dir).unwrap();
        match &self.form {
            Form::Batch(bytes) => {
                let name = format!("{}{}", self.position, spool::BATCH_SUFFIX);
                std::fs::write(dir.join(name), bytes).unwrap();
            }
            Form::Full(files) => {
                let dir = dir.join(self.position.to_string());
                std::fs::create_dir_all(dir.join(spool::DATA)).unwrap();
                std::fs::write(dir.join(spool::MANIFEST), &self.document).unwrap();
                for (path, bytes) in files {
                    let target = path.in_dir(&dir.join(spool::DATA));
                    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                    std::fs::write(target, bytes).unwrap();
                }
            }
        }
    }

    /// Whether the receiver takes it.
    pub(crate) fn is_taken(&self, spool_dir: &Path, ack: Option<&Ack>) -> bool {
        let dir = generations(spool_dir);
        let standing = match Beneath::open(&dir) {
            Ok(dir) => spool::list(&dir).unwrap(),
            Err(_) => Vec::new(),
        };
        let newest = standing.last().map(|(position, _)| *position);
        let newest = newest.max(ack.and_then(|ack| ack.accepted));
        newest.is_none_or(|newest| self.position > newest)
    }
}

pub(crate) fn generations(spool_dir: &Path) -> PathBuf {
    spool::dataset_dir(spool_dir, &DataSet::Ca)
}

impl Line {
    pub(crate) fn new(begins: Position) -> Self {
        Self {
            known: Known::new(certname(PASSIVE), begins),
            wants_full: false,
            queue: VecDeque::new(),
            late: Vec::new(),
            arrived: Vec::new(),
            is_stopped: false,
        }
    }

    pub(crate) fn go_on(&mut self, standing: &Standing) {
        if matches!(standing, Standing::WantsFull(_)) {
            self.want_full();
        }
    }

    /// The sender ends.
    pub(crate) fn stop(&mut self, error: &Error) {
        assert_eq!(error.rule(), Some(push::ROLLED_BACK), "{error}");
        self.is_stopped = true;
    }

    /// The peer can go on with a full generation only.
    pub(crate) fn want_full(&mut self) {
        self.queue.clear();
        self.wants_full = true;
    }

    /// The session broke.
    pub(crate) fn broke(&mut self) {
        self.known.lost();
        self.want_full();
    }

    /// Puts a batch into the queue, unless it is overtaken.
    pub(crate) fn offer(&mut self, parcel: Parcel) {
        if !self.wants_full && !self.is_stopped {
            self.queue.push_back(parcel);
        }
    }
}
