//! Facts in LevelDB.

use super::LevelDb;
use super::scan::scan_page;
use super::writer::{Change, Durability};
use crate::index::error::IndexError;
use crate::index::facts::Fact;

#[allow(clippy::unused_async, reason = "the interface of all engines")]
impl LevelDb {
    pub(in crate::index) async fn fact(&self, fact: &Fact) -> Result<Option<Vec<u8>>, IndexError> {
        Ok(self.current.read().await.database()?.get(&fact.row())?)
    }

    pub(in crate::index) async fn set_fact(
        &self,
        fact: Fact,
        value: Option<Vec<u8>>,
    ) -> Result<(), IndexError> {
        // a volume must never know more of the store than its index does
        self.send(Change::Fact(fact.row(), value), Durability::Power).await.map(drop)
    }

    pub(in crate::index) async fn volume_facts(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, IndexError> {
        let (mut rows, mut start) = (Vec::new(), Some(Fact::VOLUMES.to_vec()));
        while let Some(from) = start {
            let page = self.scan(move |database| {
                let row = |row: &[u8], value: &[u8]| Ok(Some((row.to_vec(), value.to_vec())));
                scan_page(database, Fact::VOLUMES, &from, row)
            });
            let page = page.await?;
            rows.extend(page.rows);
            start = page.next;
        }
        Ok(rows)
    }
}
