//! People by name, and the same by city: two keyspaces that a transaction keeps in step. `cargo run -p lsm --example secondary_index`

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lsm::{Db, Durability, Keyspace, KeyspaceOptions, Result};

struct People {
    db: Db,
    by_name: Keyspace,
    by_city: Keyspace,
}

impl People {
    fn open(directory: &std::path::Path) -> Result<Self> {
        let db = Db::open(directory)?;
        let by_name = db.keyspace("people", KeyspaceOptions::sorted())?;
        let by_city = db.keyspace("people by city", KeyspaceOptions::sorted())?;
        Ok(Self { db, by_name, by_city })
    }

    /// The city, a zero byte, the name: all of one city stand together, in order.
    fn entry(city: &[u8], name: &str) -> Vec<u8> {
        [city, &[0], name.as_bytes()].concat()
    }

    /// Moves somebody in, from wherever he lived. The old entry of the index must go in the same commit; and if two move the same person at once, the
    /// second one has read what is no longer so, and is run again.
    fn moves_to(&self, name: &str, city: &str) -> Result<()> {
        self.db.transact(Durability::System, |transaction| {
            if let Some(before) = transaction.get(&self.by_name, name)? {
                transaction.delete(&self.by_city, Self::entry(&before, name));
            }
            transaction.put(&self.by_name, name, city);
            transaction.put(&self.by_city, Self::entry(city.as_bytes(), name), "");
            Ok(())
        })?;
        Ok(())
    }

    fn living_in(&self, city: &str) -> Result<Vec<String>> {
        let prefix = [city.as_bytes(), &[0]].concat();
        let name =
            |key: &[u8]| String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
        self.by_city.prefix(&prefix).map(|item| Ok(name(&item?.0))).collect()
    }
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| lsm::Error::io("make a directory", error))?;
    let people = People::open(folder.path())?;
    people.moves_to("ada", "London")?;
    people.moves_to("alan", "London")?;
    people.moves_to("emmy", "Göttingen")?;
    println!("in London: {:?}", people.living_in("London")?);
    people.moves_to("alan", "Princeton")?;
    println!(
        "in London: {:?}, in Princeton: {:?}",
        people.living_in("London")?,
        people.living_in("Princeton")?
    );

    // Many at once move the same person: the index has one place for her.
    std::thread::scope(|scope| {
        let movers = ["Paris", "Rome", "Vienna", "Athens"].map(|city| {
            let people = &people;
            scope.spawn(move || people.moves_to("emmy", city))
        });
        movers.into_iter().try_for_each(|mover| mover.join().unwrap_or(Ok(())))
    })?;
    assert_eq!(people.by_city.iter().count(), 3);
    assert_eq!(people.by_name.iter().count(), 3);
    Ok(())
}
