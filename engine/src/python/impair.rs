//! `Impairer` and `LineStats` as Python sees them.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use pyo3::prelude::*;

use super::errors::{EngineError, InvalidConfig};
use crate::impair::{self, Counters, Settings};

/// A line between two TUN devices, with the faults of real networks.
#[pyclass(module = "warren._engine", frozen)]
pub struct Impairer {
    impairer: impair::Impairer,
}

/// What to change; what is `None` stays.
#[derive(Clone, Copy, Default)]
struct Change {
    delay_seconds: Option<f64>,
    loss: Option<f64>,
    reorder: Option<f64>,
    reorder_seconds: Option<f64>,
    duplicate: Option<f64>,
    rate_bits_per_second: Option<f64>,
    queue_bytes: Option<usize>,
}

/// What waits before a rate where nothing else is said: a tenth of a second of it, as home routers have it.
const QUEUE_SECONDS: f64 = 0.1;
/// A queue holds at least this: sixteen packets of an Ethernet.
const MIN_QUEUE_LEN: f64 = 16.0 * 1500.0;

impl Change {
    fn apply(&self, settings: &mut Settings) -> PyResult<()> {
        set(&mut settings.delay, self.delay_seconds.map(|value| seconds("delay_seconds", value)))?;
        set(&mut settings.reorder_delay, self.reorder_seconds.map(|value| seconds("reorder_seconds", value)))?;
        set(&mut settings.loss, self.loss.map(|value| share("loss", value)))?;
        set(&mut settings.reorder, self.reorder.map(|value| share("reorder", value)))?;
        set(&mut settings.duplicate, self.duplicate.map(|value| share("duplicate", value)))?;
        if let Some(rate) = self.rate_bits_per_second {
            if !rate.is_finite() || rate < 0.0 {
                return Err(InvalidConfig::new_err(format!("rate_bits_per_second: {rate} is no rate")));
            }
            settings.rate = rate;
            // A rate is finite and positive, so this is a length.
            settings.queue_len = (rate / 8.0 * QUEUE_SECONDS).max(MIN_QUEUE_LEN) as usize;
        }
        set(&mut settings.queue_len, self.queue_bytes.map(Ok))
    }
}

fn set<T>(field: &mut T, value: Option<PyResult<T>>) -> PyResult<()> {
    if let Some(value) = value {
        *field = value?;
    }
    Ok(())
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|error| InvalidConfig::new_err(format!("{name}: {error}")))
}

fn share(name: &str, value: f64) -> PyResult<f64> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(InvalidConfig::new_err(format!("{name}: a share is from 0 to 1, not {value}")))
}

#[pymethods]
impl Impairer {
    #[new]
    #[pyo3(signature = (
        left_fd, right_fd, *, seed = 1, delay_seconds = None, loss = None, reorder = None, reorder_seconds = None,
        duplicate = None, rate_bits_per_second = None, queue_bytes = None
    ))]
    #[allow(clippy::too_many_arguments)] // keywords of a Python signature
    fn new(
        left_fd: RawFd,
        right_fd: RawFd,
        seed: u64,
        delay_seconds: Option<f64>,
        loss: Option<f64>,
        reorder: Option<f64>,
        reorder_seconds: Option<f64>,
        duplicate: Option<f64>,
        rate_bits_per_second: Option<f64>,
        queue_bytes: Option<usize>,
    ) -> PyResult<Self> {
        let change =
            Change { delay_seconds, loss, reorder, reorder_seconds, duplicate, rate_bits_per_second, queue_bytes };
        let mut settings = Settings::default();
        change.apply(&mut settings)?;
        let (left, right) = (own(left_fd)?, own(right_fd)?);
        let impairer = impair::Impairer::start(left, right, [settings; 2], seed)
            .map_err(|error| EngineError::new_err(format!("the impairer did not start: {error}")))?;
        Ok(Self { impairer })
    }

    /// Change what happens to packets from now on; what is not named stays.
    #[pyo3(signature = (
        *, direction = "both", delay_seconds = None, loss = None, reorder = None, reorder_seconds = None,
        duplicate = None, rate_bits_per_second = None, queue_bytes = None
    ))]
    #[allow(clippy::too_many_arguments)] // keywords of a Python signature
    fn set(
        &self,
        direction: &str,
        delay_seconds: Option<f64>,
        loss: Option<f64>,
        reorder: Option<f64>,
        reorder_seconds: Option<f64>,
        duplicate: Option<f64>,
        rate_bits_per_second: Option<f64>,
        queue_bytes: Option<usize>,
    ) -> PyResult<()> {
        let range = match direction {
            "both" => 0..2,
            "right" => 0..1,
            "left" => 1..2,
            _ => return Err(InvalidConfig::new_err(format!("direction: {direction:?} is not both, left or right"))),
        };
        let change =
            Change { delay_seconds, loss, reorder, reorder_seconds, duplicate, rate_bits_per_second, queue_bytes };
        change.apply(&mut Settings::default())?; // so that nothing is half set
        self.impairer.set(|settings| {
            for settings in &mut settings[range] {
                let _ = change.apply(settings); // it was tried above
            }
        });
        Ok(())
    }

    /// Counters of the directions to the right and to the left.
    fn stats(&self) -> (LineStats, LineStats) {
        let [right, left] = self.impairer.counters();
        (LineStats::from(right), LineStats::from(left))
    }

    /// End the line; what is under way is lost. Idempotent.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.impairer.close());
    }
}

/// Take a copy of a descriptor that the caller keeps.
fn own(fd: RawFd) -> PyResult<std::os::fd::OwnedFd> {
    if fd < 0 {
        return Err(InvalidConfig::new_err(format!("{fd} is no file descriptor")));
    }
    // SAFETY: the caller keeps the descriptor open during this call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(|error| InvalidConfig::new_err(format!("descriptor {fd}: {error}")))
}

/// Counters of one direction, in packets of the wire.
#[pyclass(module = "warren._engine", frozen, get_all)]
pub struct LineStats {
    packets: u64,
    bytes: u64,
    delivered: u64,
    lost: u64,
    reordered: u64,
    duplicated: u64,
    overflowed: u64,
    refused: u64,
}

impl From<Counters> for LineStats {
    fn from(counters: Counters) -> Self {
        let Counters { packets, bytes, delivered, lost, reordered, duplicated, overflowed, refused } = counters;
        Self { packets, bytes, delivered, lost, reordered, duplicated, overflowed, refused }
    }
}

/// Add the classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Impairer>()?;
    module.add_class::<LineStats>()
}
