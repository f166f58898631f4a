//! Pictures, made small by a pool of threads; kill it whenever you like, and start it again.
//!
//! ```text
//! cargo run --release --example images -- [--pictures 40] [--megapixels 12] [--workers 2] [--work FOLDER] [PICTURES]
//! ```
//!
//! Without a folder of PICTURES (JPEG, PNG) some are made up, in `FOLDER/pictures`. All their names
//! are pushed as one batch, so they are in the queue together or not at all; small copies appear in
//! `FOLDER/small`. A second run goes on where the first was killed, and repeats at most the pictures
//! that were being worked on. Each set of pictures wants a work folder of its own.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use backlog::{Outcome, Queue};
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, ImageReader, Rgb, RgbImage};

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The longer side of a small picture is at most so long.
const SIDE: u32 = 320;

struct Arguments {
    pictures: u32,
    megapixels: u32,
    workers: usize,
    work: PathBuf,
    source: Option<PathBuf>,
}

fn main() -> Fallible<()> {
    let arguments = arguments()?;
    let small = arguments.work.join("small");
    fs::create_dir_all(&small)?;
    let source = match &arguments.source {
        Some(folder) => folder.clone(),
        None => make_up(&arguments)?,
    };
    let queue = Queue::open(arguments.work.join("jobs"))?;
    let worker = queue.consumer()?;
    if queue.stats().messages == 0 {
        let names = pictures_in(&source)?;
        println!("{} pictures", queue.push_batch(&names)?.count());
    }

    let pool = worker.pool(arguments.workers).until_idle().spawn({
        move |job| -> Fallible<Outcome> {
            let name = std::str::from_utf8(job.payload())?;
            match shrink(&source.join(name), &small.join(small_name(name))) {
                Ok(()) => {
                    println!("done {name}");
                    Ok(Outcome::Ack)
                }
                // What cannot be decoded now cannot be decoded later: no more tries.
                Err(error) if is_hopeless(&*error) => Ok(Outcome::Reject(error.to_string())),
                Err(error) => Err(error),
            }
        }
    })?;
    let report = pool.join()?;

    println!("{} done, {} failed, {} given up", report.acked, report.nacked, report.rejected);
    queue.close()?;
    Ok(())
}

/// A small picture is a JPEG; `cat.jpg` and `cat.png` do not meet.
fn small_name(name: &str) -> String {
    if name.ends_with(".jpg") { name.to_owned() } else { format!("{name}.jpg") }
}

/// Tells whether a picture will not be read later either.
fn is_hopeless(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    use image::ImageError::{Decoding, Limits, Unsupported};
    matches!(error.downcast_ref(), Some(Decoding(_) | Limits(_) | Unsupported(_)))
}

/// Makes a picture small. The result gets its name when it is whole: a killed run leaves no half
/// picture, and a repeat overwrites.
fn shrink(from: &Path, to: &Path) -> Fallible<()> {
    let picture = ImageReader::open(from)?.with_guessed_format()?.decode()?;
    let small = picture.thumbnail(SIDE, SIDE).into_rgb8();
    save(&small, to, 80)
}

fn save(picture: &RgbImage, to: &Path, quality: u8) -> Fallible<()> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(picture)?;
    let temporary = PathBuf::from(format!("{}.part", to.display()));
    fs::write(&temporary, bytes)?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, to)?;
    // The ack follows: the name must be safe before it.
    to.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())?;
    Ok(())
}

fn pictures_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let known = ImageFormat::from_path(&name)
            .is_ok_and(|format| matches!(format, ImageFormat::Jpeg | ImageFormat::Png));
        names.extend(name.into_string().ok().filter(|_| known));
    }
    names.sort();
    Ok(names)
}

/// Makes pictures up, those that are not there yet; each with a pattern of its own.
fn make_up(arguments: &Arguments) -> Fallible<PathBuf> {
    let folder = arguments.work.join("pictures");
    fs::create_dir_all(&folder)?;
    let pixels = f64::from(arguments.megapixels.max(1)) * 1e6;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a side of a picture")]
    let height = (pixels * 3.0 / 4.0).sqrt() as u32;
    let width = height * 4 / 3;
    for number in 0..arguments.pictures {
        let path = folder.join(format!("picture-{number:03}.jpg"));
        if path.exists() {
            continue;
        }
        let shade = |value: u32| u8::try_from(value % 256).unwrap_or(0);
        let picture = RgbImage::from_fn(width, height, |x, y| {
            Rgb([shade(x / 8 + number * 5), shade(y / 8), shade((x * y) >> 12)])
        });
        save(&picture, &path, 90)?;
    }
    Ok(folder)
}

fn arguments() -> Fallible<Arguments> {
    let work = env::temp_dir().join("backlog-images");
    let mut found = Arguments { pictures: 40, megapixels: 12, workers: 2, work, source: None };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match &word[..] {
            "--pictures" => found.pictures = value()?.parse()?,
            "--megapixels" => found.megapixels = value()?.parse()?,
            "--workers" => found.workers = value()?.parse()?,
            "--work" => found.work = value()?.into(),
            option if option.starts_with('-') => return Err(format!("no such option: {option}").into()),
            folder => found.source = Some(folder.into()),
        }
    }
    Ok(found)
}
