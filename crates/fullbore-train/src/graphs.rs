//! Micro-batches that are recorded once and replayed from then on: the key `step`.
//!
//! A recording holds forward, loss and scaled backward over input of its own, into which each micro-batch is copied. What a
//! replay does on the device is what the pass did, bit for bit; what the pass did on the host is done here: counters move
//! as they moved when it ran, and everything else that the host decides is in `Key`, or the same for a whole run. The
//! gradients stay where they are while recordings live, because these write to them.

use std::rc::Rc;

use fullbore_nn::{NormMode, Params};
use fullbore_torch::{
    Device, Error, Graph, Kind, Result, Tensor, device_memory, empty_device_cache, reset_device_peak,
};

use crate::pass::{Input, Pass};

/// Most recordings that live at a time: a step of all samples, of a half and of a quarter.
const MOST: usize = 3;

/// Passes of a kind before it is recorded: cuDNN chooses algorithms, kernels are loaded, gradients get their memory.
const WARM_UP: usize = 3;

/// Times that recordings make way for other memory in a run, before they are given up.
const MOST_RETREATS: usize = 3;

/// The recordings of an engine.
#[derive(Debug, Default)]
pub(crate) struct Graphs {
    /// In the order of their last use, the latest last.
    live: Vec<Recording>,
    seen: Vec<Seen>,
    /// Device memory that recordings keep together, and no reading of tensors shows.
    bytes: u64,
    retreats: usize,
    /// Nothing is recorded any more.
    given_up: bool,
    news: Vec<String>,
}

/// What of a pass is fixed in its recording.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    sizes: Vec<Vec<i64>>,
    mode: NormMode,
}

/// What is known of passes that are not recorded.
#[derive(Debug)]
struct Seen {
    key: Key,
    passes: usize,
    /// How far a pass moves the counters.
    counted: Vec<i64>,
    /// There was no room for its recording.
    too_large: bool,
}

/// A pass that can be replayed.
#[derive(Debug)]
pub(crate) struct Recording {
    key: Key,
    graph: Graph,
    input: Rc<Input>,
    loss: Tensor,
    counted: Vec<i64>,
}

impl Key {
    fn of(input: &Input, params: &Params) -> Self {
        Self { sizes: input.tensors().into_iter().map(Tensor::size).collect(), mode: params.norm().get() }
    }

    fn samples(&self) -> i64 {
        self.sizes[0][0]
    }
}

impl Graphs {
    /// Whether passes are, or will be, recorded: then gradients keep their memory.
    pub(crate) fn are_wanted(&self) -> bool {
        !self.given_up
    }

    /// Recordings that live.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Device memory that recordings keep, and no reading of tensors shows.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What has changed in how steps reach the device since this was last asked, in words.
    pub(crate) fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// The recording of such a pass, made now when enough of them have run. `None`: the pass has to run itself.
    ///
    /// # Errors
    /// Failures of the device. That there is no room for a recording, or that it cannot be made, is news.
    pub(crate) fn of(&mut self, input: &Input, pass: &Pass, params: &Params) -> Result<Option<&Recording>> {
        if self.given_up {
            return Ok(None);
        }
        if params.recomputes() {
            self.give_up("activations are computed again in backward, which cannot be recorded");
            return Ok(None);
        }
        let key = Key::of(input, params);
        if let Some(place) = self.live.iter().position(|recording| recording.key == key) {
            let used = self.live.remove(place);
            self.live.push(used);
            return Ok(self.live.last());
        }
        let Some(place) = self.seen.iter().position(|seen| seen.key == key) else { return Ok(None) };
        if self.seen[place].too_large || self.seen[place].passes < WARM_UP {
            return Ok(None);
        }
        if self.live.len() == MOST {
            self.live.remove(0);
        }
        let samples = key.samples();
        match Recording::new(key, &self.seen[place].counted, input, pass, params, self.live.last()) {
            Ok((recording, more)) => {
                self.live.push(recording);
                self.bytes += more;
                self.news.push(format!("graph (micro-batches of {samples} are recorded)"));
                Ok(self.live.last())
            }
            Err(Error::OutOfMemory { message }) => {
                self.seen[place].too_large = true;
                self.drop_all();
                self.news.push(format!(
                    "eager for micro-batches of {samples}: out of memory while one was recorded: {message}"
                ));
                empty_device_cache(params.device())?;
                Ok(None)
            }
            Err(error) => {
                self.give_up(&format!("a micro-batch could not be recorded: {error}"));
                Ok(None)
            }
        }
    }

    /// Learns that such a pass ran, and how far it moved the counters.
    pub(crate) fn saw(&mut self, input: &Input, params: &Params, counters_before: &[i64]) {
        let key = Key::of(input, params);
        let counted = params.counters().iter().zip(counters_before).map(|(now, then)| now - then).collect();
        match self.seen.iter_mut().find(|seen| seen.key == key) {
            Some(seen) => {
                seen.passes += 1;
                seen.counted = counted;
            }
            None => self.seen.push(Seen { key, passes: 1, counted, too_large: false }),
        }
    }

    /// Drops all recordings, and begins to warm up anew.
    pub(crate) fn clear(&mut self) {
        self.drop_all();
        self.seen.retain(|seen| seen.too_large);
    }

    fn drop_all(&mut self) {
        self.live.clear();
        self.bytes = 0;
    }

    /// The same because memory is short. False when there was nothing to drop.
    pub(crate) fn make_way(&mut self) -> bool {
        if self.live.is_empty() {
            return false;
        }
        self.clear();
        self.retreats += 1;
        match self.retreats {
            MOST_RETREATS => self.give_up("recordings have made way for other memory too often"),
            _ => self.news.push("eager for now: memory is short, the recorded micro-batches make way".into()),
        }
        true
    }

    fn give_up(&mut self, why: &str) {
        self.clear();
        self.given_up = true;
        self.news.push(format!("eager from now on: {why}"));
    }
}

impl Recording {
    /// The recording, and how much device memory it keeps beside that of `beside`.
    fn new(
        key: Key,
        counted: &[i64],
        input: &Input,
        pass: &Pass,
        params: &Params,
        beside: Option<&Recording>,
    ) -> Result<(Self, u64)> {
        let device = params.device();
        let input = Rc::new(input.copy()?);
        let loss = Tensor::zeros(&[], Kind::Float, device)?;
        let gradients: Vec<_> =
            params.parameters().map(|(_, parameter)| parameter.grad()).collect::<Result<_>>()?;
        let work = {
            let (pass, input, loss) = (pass.clone(), input.clone(), loss.clone());
            move || {
                // Backward writes to them.
                let _kept = &gradients;
                let share = pass.share(&input)?;
                loss.copy_(&share.detach()?)?;
                pass.backward(&share)
            }
        };
        // What passes before have left to the allocator is the room for the recording.
        empty_device_cache(device)?;
        let reserved = |device: Device| device_memory(device).map(|memory| memory.reserved);
        let before = reserved(device)?;
        let counters = params.counters();
        let graph = Graph::record(device, beside.map(|recording| &recording.graph), work);
        // Recording has moved them without a pass.
        params.set_counters(&counters);
        let graph = graph?;
        let more = reserved(device)?.saturating_sub(before);
        // From now on the bytes that it keeps stand for what recording held.
        reset_device_peak(device)?;
        Ok((Self { key, graph, input, loss, counted: counted.to_vec() }, more))
    }

    /// The pass over `input`: gradients grow, statistics and counters move. Gives its share of the loss, 0-dim, in memory
    /// that the next replay overwrites.
    pub(crate) fn replay(&self, input: &Input, params: &Params) -> Result<&Tensor> {
        self.input.overwrite(input)?;
        let counters: Vec<_> =
            params.counters().iter().zip(&self.counted).map(|(now, more)| now + more).collect();
        self.graph.replay()?;
        params.set_counters(&counters);
        Ok(&self.loss)
    }
}
