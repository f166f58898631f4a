//! What has a test of this thread planted?

use std::cell::Cell;
use std::marker::PhantomData;

use super::Plant;

thread_local! {
    static SOWN: Cell<Option<Plant>> = const { Cell::new(None) };
}

pub(crate) fn planted(plant: Plant) -> bool {
    SOWN.get() == Some(plant)
}

/// Plants a bug into whatever this thread calls, until the returned value is dropped. One at a
/// time; other threads, those of a queue among them, are spared.
#[must_use]
pub fn plant(plant: Plant) -> Planted {
    Planted { before: SOWN.replace(Some(plant)), not_send: PhantomData }
}

/// A planted bug; gone when this is dropped.
#[derive(Debug)]
pub struct Planted {
    before: Option<Plant>,
    /// It is this thread's.
    not_send: PhantomData<*const ()>,
}

impl Drop for Planted {
    fn drop(&mut self) {
        SOWN.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plant_is_there_on_its_thread_until_its_guard_goes() {
        let outer = plant(Plant::NotZeroed);
        let inner = plant(Plant::OneCopy);

        assert!(planted(Plant::OneCopy) && !planted(Plant::NotZeroed));
        assert!(!std::thread::spawn(|| planted(Plant::OneCopy)).join().unwrap());
        drop(inner);
        assert!(planted(Plant::NotZeroed));
        drop(outer);
        assert!(!planted(Plant::NotZeroed));
    }
}
