//! Uploads in parts: what clients do with them. They go by numbers of the test's own, which their headers
//! hold, so that one whose beginning wasn't answered is known, too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::case::{Case, Known};
use super::step::{Shape, Step};
use super::terms::{KEYS, Over, PARTS, Request, Told, number_of_part, part, value};
use crate::clock::Timestamp;
use crate::index::notes::Note;
use crate::record::{Headers, Record};
use crate::store::{Received, Store};

/// Holds an upload's number, or that of the value that a part is of.
const HEADER: &str = "number";

fn header(number: usize) -> Headers {
    vec![(HEADER.into(), number.to_string())]
}

fn in_header(record: &Record) -> usize {
    record.headers.iter().find(|(name, _)| name == HEADER).unwrap().1.parse().unwrap()
}

impl Case {
    pub(super) async fn make_of_upload(&self, store: &Store, step: Step) {
        // where its beginning wasn't answered, the client doesn't know its number
        let known = |upload: usize| self.uploads.borrow().get(&upload).copied();
        match step {
            Step::Begin(key, upload) => self.begin(store, key, upload).await,
            Step::Part(upload, number, of, shape) => {
                let Some(known) = known(upload) else { return };
                self.put_part(store, upload, known, (number, of, shape)).await;
            }
            Step::Complete(upload, over) => {
                let Some(known) = known(upload) else { return };
                self.complete(store, upload, known, over).await;
            }
            Step::Abort(upload) => {
                let Some((key, number)) = known(upload) else { return };
                let asked = self.ask(key, Request::Abort(upload));
                let told = self.meaning(&store.abort_upload(&KEYS[key], number).await);
                self.tell(key, asked, told);
            }
            Step::Expire(upload) => {
                let Some((key, number)) = known(upload) else { return };
                // the store aborts it when it likes, and tells nobody
                self.ask(key, Request::Abort(upload));
                let note = Note::Upload(KEYS[key].clone(), number);
                if let Some(record) = self.world.state().index.notes.get_mut(&note) {
                    record.modified = Some(Timestamp::default());
                }
            }
            step => unreachable!("{step:?} is for no upload"),
        }
    }

    async fn begin(&self, store: &Store, key: usize, upload: usize) {
        let asked = self.ask(key, Request::Begin(upload));
        let begun = store.begin_upload(&KEYS[key], header(upload)).await;
        if let Ok(number) = begun {
            self.uploads.borrow_mut().insert(upload, (key, number));
        }
        self.tell(key, asked, self.meaning(&begun));
    }

    async fn put_part(
        &self,
        store: &Store,
        upload: usize,
        (key, known): Known,
        (number, of, shape): (u16, usize, Shape),
    ) {
        let asked = self.ask(key, Request::Part(upload, number, of));
        let body = shape.send(&part(of, number));
        let put = store.put_part(&KEYS[key], known, number, body, move |_| Ok(header(of))).await;
        let told = self.meaning(&put);
        if told == Told::Done && !shape.is_honest() {
            self.violation("a client lied, and was believed".into());
        }
        self.tell(key, asked, told);
    }

    /// Looks which parts there are, and has them completed if they are those of one value.
    async fn complete(&self, store: &Store, upload: usize, (key, known): Known, over: Over) {
        let asked = self.ask(key, Request::List(upload));
        let listed = store.parts(&KEYS[key], known, 1, usize::from(PARTS)).await;
        let told = self.meaning(&listed);
        self.hold_against(key, asked, told);
        let Ok((parts, None)) = listed else {
            self.note_told(told);
            return;
        };
        let Some(of) = value_of(&parts) else {
            self.note_told(Told::Refused);
            return;
        };
        let asked = self.ask(key, Request::Complete(upload, of, over));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tap = {
            let seen = Arc::clone(&seen);
            move |bytes: &Bytes| seen.lock().unwrap().extend_from_slice(bytes)
        };
        let finish = {
            let seen = Arc::clone(&seen);
            move |received: Received| {
                let seen = seen.lock().unwrap();
                assert_eq!(received.size, seen.len() as u64);
                assert_eq!(received.md5, Some(md5_lanes::digest(&*seen)));
                Ok(Vec::new())
            }
        };
        let completed = store.complete_upload(&KEYS[key], known, parts, over.when(), tap, finish).await;
        if completed.is_ok() && *seen.lock().unwrap() != value(of) {
            self.violation(format!("value {of} was {:?} on its way", seen.lock().unwrap()));
        }
        let told = self.meaning(&completed);
        self.tell(key, asked, told);
    }

    /// The uploads to the key that go on, with the values that their parts are of.
    pub(super) fn uploads_to(&self, key: usize) -> BTreeMap<usize, BTreeMap<u16, usize>> {
        let notes = self.world.state().index.notes.clone();
        let mut uploads = BTreeMap::new();
        for (note, record) in notes {
            let Note::Upload(to, number) = note else { unreachable!("no buckets are made") };
            if to == KEYS[key] {
                self.uploads.borrow_mut().insert(in_header(&record), (key, number));
                uploads.insert(in_header(&record), self.parts_of(number));
            }
        }
        uploads
    }

    fn parts_of(&self, upload: u64) -> BTreeMap<u16, usize> {
        let rows = self.world.state().index.rows.clone();
        let parts = rows.iter().filter_map(|(key, entry)| Some((key, entry.record.as_ref()?)));
        let of_upload = parts.filter(|(key, _)| key.as_part().is_some_and(|(of, _)| of == upload));
        let whole = of_upload.filter_map(|(key, record)| {
            let (_, number) = key.as_part().unwrap();
            let of = self.look_at_files(key, record, |bytes| number_of_part(number, bytes));
            Some((number, of?))
        });
        whole.collect()
    }
}

/// The value that these parts are, if they are all of one's.
fn value_of(parts: &[(u16, Record)]) -> Option<usize> {
    let numbers: Vec<u16> = parts.iter().map(|(number, _)| *number).collect();
    let mut of = parts.iter().map(|(_, record)| in_header(record));
    let first = of.next().filter(|first| of.all(|of| of == *first))?;
    (numbers == (1..=PARTS).collect::<Vec<_>>()).then_some(first)
}
