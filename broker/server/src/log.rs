//! The log, in nats-server's line format: on standard error, in a file, or to a syslog.
//!
//! A `tracing` subscriber without spans: an event that is switched off costs one load, one that is on
//! costs one formatted line and one write.

mod file;
mod syslog;

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use parking_lot::Mutex;
use time::{OffsetDateTime, UtcOffset};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};

use file::LogFile;
pub(crate) use file::Rotation;
use syslog::Syslog;
pub(crate) use syslog::SyslogTarget;

const DEBUG: u8 = 1;
const TRACE: u8 = 2;
const TIME: u8 = 4;
const UTC: u8 = 8;

/// What to log and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogOptions {
    pub(crate) debug: bool,
    pub(crate) trace: bool,
    /// Timestamps.
    pub(crate) time: bool,
    pub(crate) utc: bool,
    /// A file comes before a syslog, a syslog before standard error.
    pub(crate) file: Option<PathBuf>,
    pub(crate) rotation: Rotation,
    pub(crate) syslog: Option<SyslogTarget>,
}

impl LogOptions {
    pub(crate) fn of(options: &weir_conf::Options) -> Self {
        let local = options.syslog.then_some(SyslogTarget::Local);
        Self {
            debug: options.debug,
            trace: options.trace,
            time: options.logtime,
            utc: options.logtime_utc,
            file: options.log_file.clone(),
            rotation: Rotation { size_limit: options.log_size_limit, files_max: options.log_max_num },
            syslog: options.remote_syslog.clone().map(SyslogTarget::Remote).or(local),
        }
    }

    fn flags(&self) -> u8 {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        flag(self.debug, DEBUG) | flag(self.trace, TRACE) | flag(self.time, TIME) | flag(self.utc, UTC)
    }
}

struct Log {
    flags: AtomicU8,
    /// Of the zone the process started in; zero when it is not known.
    local_offset: UtcOffset,
    pid: u32,
    /// Who writes, for syslogs.
    tag: String,
    output: Mutex<Output>,
}

enum Output {
    Stderr { colored: bool },
    File(LogFile),
    Syslog(Syslog),
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the log and makes it the process's; `program` is its name in syslogs. Call it before any
/// thread is started, since the time zone can be read safely only then. Only the first call counts.
pub(crate) fn install(options: &LogOptions, program: &str) -> Result<(), String> {
    let output = open(options, program)?;
    let log = Log::new(options, program, output);
    if LOG.set(log).is_ok() {
        // Fails only when a test has set a subscriber of its own.
        let _ = tracing::subscriber::set_global_default(LineSubscriber);
    }
    say_when_full();
    Ok(())
}

/// Other options for a log that runs, with their output open: what can fail has been done.
pub(crate) struct Prepared {
    flags: u8,
    /// `None`: the log stays where it is.
    output: Option<Output>,
}

/// Opens what other options need.
pub(crate) fn prepare(options: &LogOptions) -> Result<Prepared, String> {
    let flags = options.flags();
    let Some(log) = LOG.get() else { return Ok(Prepared { flags, output: None }) };
    let stays = match (&*log.output.lock(), &options.file, &options.syslog) {
        (Output::Stderr { .. }, None, None) => true,
        (Output::File(file), Some(path), _) => file.path() == path,
        (Output::Syslog(syslog), None, Some(target)) => syslog.target() == target,
        _ => false,
    };
    let output = if stays { None } else { Some(open(options, &log.tag)?) };
    Ok(Prepared { flags, output })
}

impl Prepared {
    /// Logs so from now on.
    pub(crate) fn apply(self) {
        let Some(log) = LOG.get() else { return };
        if let Some(output) = self.output {
            *log.output.lock() = output;
            say_when_full();
        }
        log.flags.store(self.flags, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Opens the log file anew, so that a moved one is left behind. False when there is none.
pub(crate) fn reopen(options: &LogOptions) -> Result<bool, String> {
    let Some(log) = LOG.get() else { return Ok(false) };
    let Some(path) = &options.file else { return Ok(false) };
    let file = LogFile::open(path, options.rotation)?;
    *log.output.lock() = Output::File(file);
    say_when_full();
    Ok(true)
}

fn open(options: &LogOptions, program: &str) -> Result<Output, String> {
    match (&options.file, &options.syslog) {
        (Some(path), _) => LogFile::open(path, options.rotation).map(Output::File),
        (None, Some(target)) => Syslog::open(target.clone(), program).map(Output::Syslog),
        (None, None) => Ok(Output::Stderr { colored: io::stderr().is_terminal() }),
    }
}

/// A line makes a file that is too large rotate.
fn say_when_full() {
    let full =
        LOG.get().is_some_and(|log| matches!(&*log.output.lock(), Output::File(file) if file.is_full()));
    if full {
        tracing::info!("Rotating logfile...");
    }
}

/// Logs the last words of a process that cannot go on.
pub(crate) fn fatal(text: &str) {
    match LOG.get() {
        Some(log) => log.write("FTL", |line| line.push_str(text)),
        None => {
            let options = LogOptions { time: true, ..LogOptions::default() };
            let output = Output::Stderr { colored: io::stderr().is_terminal() };
            Log::new(&options, "weir", output).write("FTL", |line| line.push_str(text));
        }
    }
}

impl Log {
    fn new(options: &LogOptions, program: &str, output: Output) -> Self {
        Self {
            flags: AtomicU8::new(options.flags()),
            local_offset: UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC),
            pid: std::process::id(),
            tag: program.to_owned(),
            output: Mutex::new(output),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let flags = self.flags.load(Ordering::Relaxed);
        let ours = metadata.target().starts_with("weir");
        match *metadata.level() {
            Level::ERROR => true,
            Level::WARN | Level::INFO => ours || flags & DEBUG != 0,
            Level::DEBUG => ours && flags & DEBUG != 0,
            _ => ours && flags & TRACE != 0,
        }
    }

    fn write(&self, level: &str, text: impl FnOnce(&mut String)) {
        let flags = self.flags.load(Ordering::Relaxed);
        let now = OffsetDateTime::now_utc();
        let local = now.to_offset(self.local_offset);
        let mut output = self.output.lock();
        if let Output::Syslog(syslog) = &mut *output {
            let mut line = String::with_capacity(160);
            text(&mut line);
            return syslog.write(level, &line, local);
        }
        let mut line = String::with_capacity(160);
        let _ = write!(line, "[{}] ", self.pid);
        if flags & TIME != 0 {
            write_time(&mut line, if flags & UTC == 0 { local } else { now });
        }
        let _ = match &*output {
            Output::Stderr { colored: true } => write!(line, "[\x1b[{}m{level}\x1b[0m] ", color(level)),
            _ => write!(line, "[{level}] "),
        };
        text(&mut line);
        line.push('\n');
        match &mut *output {
            Output::File(file) => file.write(&line, self.pid, local),
            // A log that cannot be written has nowhere to say so.
            _ => drop(io::stderr().write_all(line.as_bytes())),
        }
    }
}

/// nats-server's colours, for terminals.
fn color(level: &str) -> &'static str {
    match level {
        "INF" => "32",
        "DBG" => "36",
        "WRN" => "0;93",
        "TRC" => "33",
        _ => "31",
    }
}

fn write_time(line: &mut String, now: OffsetDateTime) {
    let (year, month, day) = (now.year(), u8::from(now.month()), now.day());
    let (hour, minute, second, micros) = now.to_hms_micro();
    let _ = write!(line, "{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06} ");
}

/// The subscriber: its state is the process's log.
struct LineSubscriber;

impl Subscriber for LineSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Questions (`tracing::enabled!`) are neither events nor spans.
        !metadata.is_span() && LOG.get().is_some_and(|log| log.enabled(metadata))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let flags = LOG.get()?.flags.load(Ordering::Relaxed);
        Some(match flags & (DEBUG | TRACE) {
            0 => LevelFilter::INFO,
            DEBUG => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let Some(log) = LOG.get() else { return };
        let level = match *event.metadata().level() {
            Level::ERROR => "ERR",
            Level::WARN => "WRN",
            Level::INFO => "INF",
            Level::DEBUG => "DBG",
            _ => "TRC",
        };
        log.write(level, |line| {
            let mut fields = FieldWriter { line, appended: String::new() };
            event.record(&mut fields);
            let appended = fields.appended;
            line.push_str(&appended);
        });
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Writes the message to the line and keeps `key=value` of the other fields for after it.
struct FieldWriter<'a> {
    line: &'a mut String,
    appended: String,
}

impl Visit for FieldWriter<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.line, "{value:?}");
        } else {
            let _ = write!(self.appended, " {}={value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.line.push_str(value);
        } else if value.contains(' ') || value.is_empty() {
            let _ = write!(self.appended, " {}={value:?}", field.name());
        } else {
            let _ = write!(self.appended, " {}={value}", field.name());
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let _ = write!(self.appended, " {}={value}", field.name());
    }
}
