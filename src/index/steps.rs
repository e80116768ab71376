//! The steps of the write protocol, as an index carries them out.
//!
//! A step reads what the index holds of one key, decides, and writes, all in one atomic batch: nothing comes
//! between the decision and the write. So its conditions cover the key's record as well as its intents, and
//! what is noted of an upload. This file is the decision alone, without an engine: `Step::decide` is a pure
//! function of the key's [`Entry`], which every engine that has no statements of its own calls.

use super::notes::Note;
use super::types::Entry;
use crate::error::{Error, Result};
use crate::key::{Key, Name};
use crate::record::{Intent, Record, Replica, State};

/// One key has at most this many unfinished attempts; more come only from writing it again and again while
/// volumes are down.
pub const MAX_INTENTS: usize = 64;

/// What a key must hold for a write to take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing that is live.
    Absent,
    /// Anything, or nothing.
    Always,
    /// A live value, whichever.
    Live,
    /// A live value of that [tag](Record::tag).
    Tagged(String),
    /// Exactly this record, live or not.
    Unchanged(Box<Record>),
}

impl Precondition {
    /// Whether a write may take effect on a key that has this record.
    ///
    /// # Errors
    ///
    /// `Exists`; `Changed` or `NotFound` where another value was expected.
    pub fn check(&self, record: Option<&Record>) -> Result<()> {
        let live = record.filter(|record| record.state == State::Live);
        match (self, live) {
            (Self::Unchanged(expected), _) => match record {
                Some(record) if record == expected.as_ref() => Ok(()),
                Some(_) => Err(Error::Changed),
                None => Err(Error::NotFound),
            },
            (Self::Always, _) | (Self::Absent, None) | (Self::Live, Some(_)) => Ok(()),
            (Self::Absent, Some(_)) => Err(Error::Exists),
            (Self::Live | Self::Tagged(_), None) => Err(Error::NotFound),
            (Self::Tagged(tag), Some(record)) if record.tag() == *tag => Ok(()),
            (Self::Tagged(_), Some(_)) => Err(Error::Changed),
        }
    }
}

/// A note that a step requires.
#[derive(Clone, Debug)]
pub struct RequiredNote {
    /// The note that must be there.
    pub note: Note,
    /// Whether the step takes it out, when it makes a value visible.
    pub ends: bool,
}

/// What a step requires besides the intent of its own attempt.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// What the key must hold.
    pub precondition: Precondition,
    /// Whether a live value is protected from being replaced or removed.
    pub protect: bool,
    /// What must be noted.
    pub required: Option<RequiredNote>,
}

impl Conditions {
    /// A step that depends on the key's record alone.
    #[must_use]
    pub fn on(precondition: Precondition) -> Self {
        Self { precondition, protect: false, required: None }
    }

    /// Whether a step may be carried out on a key with that record; `noted` tells whether the required note
    /// is there.
    ///
    /// # Errors
    ///
    /// `NoUpload`, `Protected`, and those of [`Precondition::check`].
    pub fn check(&self, record: Option<&Record>, noted: bool) -> Result<()> {
        if self.required.is_some() && !noted {
            return Err(Error::NoUpload);
        }
        self.precondition.check(record)?;
        let live = record.is_some_and(|record| record.state == State::Live);
        if live && self.protect { Err(Error::Protected) } else { Ok(()) }
    }
}

/// What came of a step that the index answered.
#[derive(Debug)]
pub enum Effect {
    /// It was carried out.
    Done(Done),
    /// Nothing was written: the key doesn't hold what the step requires.
    Refused(Error),
    /// Nothing was written: the record or another attempt's intent names one of the files.
    NotFree,
    /// Nothing was written: the attempt's own intent, or a file of it, is not in the index any more.
    Fenced,
    /// Nothing was written: an attempt that began later has taken effect already.
    Overtaken,
}

/// What a step that was carried out changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// The record that it replaced or removed, if there was one.
    pub replaced: Option<Record>,
    /// How many intents the key has now.
    pub intents: usize,
}

/// What became of an attempt whose step got no answer, or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// Its intent is there, and the attempt will never take effect.
    Closed,
    /// The key's record names files of it.
    TookEffect,
    /// Neither: it took effect and was replaced since, or its files were deleted.
    Gone,
}

/// One step on one key.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) key: Key,
    pub(crate) action: Action,
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Names the first files of an attempt.
    Begin { intent: Intent, conditions: Conditions },
    /// Names further files of the attempt.
    Extend { intent: Intent },
    /// Makes the attempt's value visible.
    TakeEffect {
        id: u64,
        record: Box<Record>,
        conditions: Conditions,
        /// The files that the record replaces become the files of an intent of this number.
        surplus: Surplus,
    },
    /// Takes the record out; its files become those of an intent of this number.
    Remove { id: u64, conditions: Conditions },
    /// Hides the value, or shows it again.
    SetState(State),
    /// Drops the files on these volumes from all intents.
    Forget(Vec<String>),
    /// Ends an intent, whose files are gone.
    End(Intent),
}

/// What happens to the files that a new record replaces.
#[derive(Clone, Debug, Default)]
pub struct Surplus {
    /// The number of the intent that names them from then on.
    pub id: u64,
    /// Volumes that are gone for good: files on them are named no more.
    pub forgotten: Vec<String>,
}

impl Surplus {
    /// The intent that names the files of the replaced record, but for those that the new one keeps; `None` where
    /// there is no such file.
    pub(crate) fn intent(&self, replaced: Option<&Record>, kept: &[Replica]) -> Option<Intent> {
        let is_gone = |file: &Replica| self.forgotten.iter().any(|gone| gone == file.place.volume());
        let files = replaced.iter().flat_map(|record| &record.replicas);
        let files: Vec<Replica> =
            files.filter(|file| !kept.contains(file) && !is_gone(file)).cloned().collect();
        (!files.is_empty()).then_some(Intent { id: self.id, files })
    }
}

/// What a step makes of a key's entry.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) effect: Effect,
    /// Whether the record was changed.
    pub(crate) record: bool,
    /// Whether the intents were changed.
    pub(crate) intents: bool,
}

impl Decision {
    /// Nothing is written.
    fn nothing(effect: Effect) -> Self {
        Self { effect, record: false, intents: false }
    }
}

impl From<Error> for Decision {
    fn from(refusal: Error) -> Self {
        Self::nothing(Effect::Refused(refusal))
    }
}

impl Step {
    /// The note that the step depends on.
    pub(crate) fn required(&self) -> Option<&RequiredNote> {
        match &self.action {
            Action::Begin { conditions, .. }
            | Action::TakeEffect { conditions, .. }
            | Action::Remove { conditions, .. } => conditions.required.as_ref(),
            Action::Extend { .. } | Action::SetState(_) | Action::Forget(_) | Action::End(_) => None,
        }
    }

    /// The note that goes with the step, if it is carried out.
    pub(crate) fn ends(&self) -> Option<&Note> {
        let required = self.required().filter(|required| required.ends);
        required.filter(|_| matches!(self.action, Action::TakeEffect { .. })).map(|required| &required.note)
    }

    /// Whether the step must survive what the index was opened for; the others are found again, and settled
    /// again, when they are lost.
    pub(crate) fn is_durable(&self) -> bool {
        !matches!(self.action, Action::End(_))
    }

    /// Decides what the step makes of `entry`, and changes it accordingly. `noted` tells whether the required
    /// note is there.
    pub(crate) fn decide(self, entry: &mut Entry, noted: bool) -> Decision {
        match self.action {
            Action::Begin { intent, conditions } => begin(entry, intent, &conditions, noted),
            Action::Extend { intent } => extend(entry, intent),
            Action::TakeEffect { id, record, conditions, surplus } => {
                take_effect(entry, id, *record, &conditions, noted, &surplus)
            }
            Action::Remove { id, conditions } => remove(entry, id, &conditions, noted),
            Action::SetState(state) => set_state(entry, state),
            Action::Forget(volumes) => forget(entry, &volumes),
            Action::End(intent) => end(entry, &intent),
        }
    }
}

fn begin(entry: &mut Entry, intent: Intent, conditions: &Conditions, noted: bool) -> Decision {
    if let Err(refusal) = conditions.check(entry.record.as_ref(), noted) {
        return refusal.into();
    }
    if entry.intents.len() >= MAX_INTENTS {
        return Error::Unsettled.into();
    }
    if !is_free(entry, &intent) {
        return Decision::nothing(Effect::NotFree);
    }
    entry.intents.push(intent);
    done(entry, None, false)
}

fn extend(entry: &mut Entry, more: Intent) -> Decision {
    if !is_free(entry, &more) {
        return Decision::nothing(Effect::NotFree);
    }
    let Some(own) = entry.intents.iter_mut().find(|intent| intent.id == more.id) else {
        return Decision::nothing(Effect::Fenced);
    };
    own.files.extend(more.files);
    done(entry, None, false)
}

fn take_effect(
    entry: &mut Entry,
    id: u64,
    record: Record,
    conditions: &Conditions,
    noted: bool,
    surplus: &Surplus,
) -> Decision {
    if let Err(refusal) = conditions.check(entry.record.as_ref(), noted) {
        return refusal.into();
    }
    // a rebuild takes the highest number for the newest value
    let newer = |replica: &Replica| matches!(replica.name, Name::Generation(number) if number > id);
    if entry.record.as_ref().is_some_and(|old| old.replicas.iter().any(newer)) {
        return Decision::nothing(Effect::Overtaken);
    }
    let own = entry.intents.iter().find(|intent| intent.id == id);
    let vouched = |file: &Replica| {
        own.is_some_and(|own| own.files.contains(file))
            || entry.record.as_ref().is_some_and(|old| old.replicas.contains(file))
    };
    if !record.replicas.iter().all(vouched) {
        return Decision::nothing(Effect::Fenced);
    }
    for intent in entry.intents.iter_mut().filter(|intent| intent.id == id) {
        intent.files.retain(|file| !record.replicas.contains(file));
    }
    entry.intents.retain(|intent| !intent.files.is_empty());
    if let Some(intent) = surplus.intent(entry.record.as_ref(), &record.replicas) {
        entry.intents.push(intent);
    }
    let replaced = entry.record.replace(record);
    done(entry, replaced, true)
}

fn remove(entry: &mut Entry, id: u64, conditions: &Conditions, noted: bool) -> Decision {
    if entry.record.is_none() {
        return Error::NotFound.into();
    }
    if let Err(refusal) = conditions.check(entry.record.as_ref(), noted) {
        return refusal.into();
    }
    let removed = entry.record.take();
    let files = removed.as_ref().map(|record| record.replicas.clone()).unwrap_or_default();
    if !files.is_empty() {
        entry.intents.push(Intent { id, files });
    }
    done(entry, removed, true)
}

fn set_state(entry: &mut Entry, state: State) -> Decision {
    let Some(record) = entry.record.as_mut().filter(|record| record.state != state) else {
        return Error::NotFound.into();
    };
    record.state = state;
    let intents = entry.intents.len();
    let effect = Effect::Done(Done { replaced: None, intents });
    Decision { effect, record: true, intents: false }
}

fn forget(entry: &mut Entry, volumes: &[String]) -> Decision {
    for intent in &mut entry.intents {
        intent.files.retain(|file| volumes.iter().all(|volume| volume != file.place.volume()));
    }
    entry.intents.retain(|intent| !intent.files.is_empty());
    done(entry, None, false)
}

fn end(entry: &mut Entry, gone: &Intent) -> Decision {
    let Some(at) = entry.intents.iter().position(|intent| intent == gone) else {
        return Decision::nothing(Effect::Fenced);
    };
    entry.intents.remove(at);
    done(entry, None, false)
}

/// A step that was carried out, and changed the intents.
fn done(entry: &Entry, replaced: Option<Record>, record: bool) -> Decision {
    let effect = Effect::Done(Done { replaced, intents: entry.intents.len() });
    Decision { effect, record, intents: true }
}

/// Whether no record and no intent names a file of `new`.
fn is_free(entry: &Entry, new: &Intent) -> bool {
    let named = entry.record.iter().flat_map(|record| &record.replicas);
    let mut named = named.chain(entry.intents.iter().flat_map(|intent| &intent.files));
    !named.any(|file| new.files.contains(file))
}

impl Entry {
    /// What became of the attempt of that number, which had these files.
    pub(crate) fn resolve(&self, id: u64, files: &[Replica]) -> Resolved {
        if self.record.as_ref().is_some_and(|record| record.replicas.iter().any(|file| files.contains(file)))
        {
            Resolved::TookEffect
        } else if self.intents.iter().any(|intent| intent.id == id) {
            Resolved::Closed
        } else {
            Resolved::Gone
        }
    }
}
