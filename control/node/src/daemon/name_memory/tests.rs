use super::lines::LARGE;
use super::*;
use mizzen_types::fact::FrameworkFact;
use std::{fs, thread};

fn framework(name: &str) -> (OwnerKey, Remembered) {
    let key = Key::Framework(name.into());
    let fact = FrameworkFact { name: name.to_owned(), hostname: None, port: None };
    (OwnerKey::Fact { owner: "n1".into(), key }, Remembered::Fact(Fact::Framework(fact)))
}

#[test]
fn the_next_process_knows_what_this_one_knew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("names.log");
    let mut memory = Memory::new(path.clone());
    assert_eq!(memory.load(Mono(0)), Known::default());
    let (a, b) = (framework("a"), framework("b"));
    let vip = OwnerKey::Vip("web.marathon".into());
    let addresses = Remembered::Vip(vec!["11.0.0.7".parse().unwrap()]);
    memory.push(&a.0, Some(&a.1), Mono(0));
    memory.push(&b.0, Some(&b.1), Mono(0));
    memory.push(&vip, Some(&addresses), Mono(0));
    memory.push(&a.0, None, Mono(0));
    assert_eq!(memory.deadline(), Some(Mono(0) + DELAY));
    memory.flush(Wall(77));
    memory.push(&a.0, Some(&a.1), Mono(0));
    drop(memory); // not written: it was killed

    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole, &b"{\"vip\":[\"x\",[\"1"[..]].concat()).unwrap();
    let mut want = Known { held: BTreeMap::from([b, (vip.clone(), addresses)]), at: Wall(77) };
    let mut memory = Memory::new(path.clone());
    assert_eq!(memory.load(Mono(0)), want);
    assert_eq!(fs::read(&path).unwrap(), whole, "a start writes nothing");
    memory.push(&vip, None, Mono(0));
    memory.push(&a.0, Some(&a.1), Mono(0));
    memory.flush(Wall(78));
    want.held.remove(&vip);
    want.held.insert(a.0, a.1);
    want.at = Wall(78);
    assert_eq!(Memory::new(path.clone()).load(Mono(0)), want, "behind the line that was cut off");
    fs::write(&path, "{\"format\":9}\n").unwrap();
    let mut memory = Memory::new(path.clone());
    assert_eq!(memory.load(Mono(0)), Known::default(), "of another version");
    assert_eq!(fs::read(&path).unwrap(), b"{\"format\":2}\n{\"at\":0}\n");
}

#[test]
fn a_line_that_is_none_hides_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("names.log");
    let (a, b) = (framework("a"), framework("b"));
    let mut text = b"{\"format\":2}\n".to_vec();
    assert!(push_line(&mut text, &a.0, Some(&a.1)));
    text.extend(b"{\"fact\":[\"n1\",\n\n{}\nnull\n\xff\n{\"later\":[1]}\n");
    assert!(push_line(&mut text, &b.0, Some(&b.1)));
    fs::write(&path, text).unwrap();
    assert_eq!(Memory::new(path).load(Mono(0)).held, BTreeMap::from([a, b]));
}

fn vip(number: usize) -> OwnerKey {
    OwnerKey::Vip(format!("{}-{number}.marathon", "v".repeat(60)))
}

fn addresses(low: u8) -> Remembered {
    Remembered::Vip(vec![[11, 0, 0, low].into()])
}

/// A file whose second half takes back or changes what the first one says, and what is known.
fn large(path: &Path) -> Known {
    let mut memory = Memory::new(path.to_owned());
    memory.load(Mono(0));
    for number in 0..6_000 {
        memory.push(&vip(number), Some(&addresses(1)), Mono(0));
    }
    for number in 0..6_000 {
        let now = addresses(2);
        memory.push(&vip(number), Some(&now).filter(|_| number % 2 == 0), Mono(0));
    }
    memory.flush(Wall(5));
    let want = (0..6_000).step_by(2).map(|number| (vip(number), addresses(2)));
    Known { held: want.collect(), at: Wall(5) }
}

/// The same, and so many changes since then that it is worth writing anew.
fn grown(path: &Path) -> (Known, Memory) {
    let mut known = large(path);
    let mut memory = indexed(path);
    assert_eq!(memory.load(Mono(0)), known);
    for _ in 0..5_000 {
        memory.push(&vip(0), Some(&addresses(3)), Mono(0));
    }
    known.held.insert(vip(0), addresses(3));
    (known, memory)
}

fn options() -> Options {
    Options { seed: Seed(3, 4), ..Options::default() }
}

/// A memory that makes an index, too.
fn indexed(path: &Path) -> Memory {
    let mut memory = Memory::new(path.to_owned());
    memory.make_names_by(&options(), &"n0".into());
    memory
}

fn size(path: &Path) -> usize {
    fs::metadata(path).unwrap().len() as usize
}

/// Lets the daemon's loop turn until nothing is done by threads any more; `meanwhile` happens
/// in between.
fn turn(memory: &mut Memory, mut meanwhile: impl FnMut(&mut Memory)) {
    let mut now = Mono(0);
    while memory.deadline().is_some() {
        now = now + DELAY;
        memory.handle_timeout(now, Wall(6));
        meanwhile(memory);
        thread::yield_now();
    }
}

#[test]
fn a_large_file_is_read_in_order_and_shrinks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("names.log");
    let (mut known, mut memory) = grown(&path);
    let before = size(&path);
    assert!(before > LARGE);
    assert_eq!(memory.lines, 17_000, "void ones count");
    turn(&mut memory, |_| {});
    known.at = Wall(6);
    assert!(size(&path) < before / 2 && memory.lines == 3_000, "{}", memory.lines);
    assert_eq!(Memory::new(path.clone()).load(Mono(0)), known);
    let index = indexed(&path).open(&options(), &"n0".into()).expect("an index of the new file");
    assert_eq!((index.lines, index.unindexed), (3_000, 0));
}

#[test]
fn changes_that_come_while_it_shrinks_are_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("names.log");
    let (mut known, mut memory) = grown(&path);
    let before = size(&path);
    let (mut come, mut moved) = (0, 0);
    turn(&mut memory, |memory| {
        let is_moving = matches!(memory.file, Kept::Moving(_));
        moved += usize::from(is_moving);
        if (memory.job.is_some() && come < 3_000) || (is_moving && moved < 100) {
            let change = (vip(7_000 + come % 500), addresses((come % 250) as u8));
            memory.push(&change.0, Some(&change.1), Mono(0));
            known.held.insert(change.0, change.1);
            come += 1;
        }
    });
    assert!(come > 0 && moved > 0 && size(&path) < before, "{come} {moved}");
    known.at = Wall(6);
    let lines = memory.lines;
    drop(memory);
    let mut again = indexed(&path);
    assert_eq!(again.load(Mono(0)), known);
    assert_eq!(again.lines, lines, "and all are counted");
}

#[test]
fn a_full_disk_leaves_the_file_that_is_there() {
    // A mount namespace belongs to a thread; the file system goes with it.
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_owned();
    let done = thread::spawn(move || {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("tmpfs"), &at, Some("tmpfs"), MsFlags::empty(), Some("size=8m")).unwrap();
        outlive_a_full_disk(&at);
    });
    done.join().unwrap();
}

fn outlive_a_full_disk(directory: &Path) {
    let path = directory.join("names.log");
    let (mut known, mut memory) = grown(&path);
    memory.flush(Wall(6));
    memory.flush_at = Some(Mono(0));
    let ballast = directory.join("ballast");
    fs::write(&ballast, vec![0; 16 << 20]).unwrap_err();
    let before = fs::read(&path).unwrap();
    turn(&mut memory, |_| {});
    assert!(memory.told.long && memory.lines == 17_000, "{memory:?}");
    assert!(fs::read(&path).unwrap() == before, "it is as it was");
    assert!(!directory.join("names.new").exists(), "what could not be written is gone");

    // Nor is there room for a change now.
    let change = (vip(9_000), Remembered::Vip(vec![[11, 0, 0, 9].into(); 400]));
    memory.push(&change.0, Some(&change.1), Mono(0));
    memory.handle_timeout(Mono(0) + DELAY, Wall(7));
    assert!(memory.told.unwritten && memory.deadline().is_some());
    known.at = Wall(6);
    let read = read(&path).unwrap();
    assert_eq!((read.known, read.end), (known.clone(), Some(before.len() as u64)), "no half line");

    fs::remove_file(ballast).unwrap();
    // Many more, so that it is worth another look.
    for _ in 0..10_001 {
        memory.push(&vip(0), Some(&addresses(4)), Mono(0));
    }
    turn(&mut memory, |_| {});
    known.held.extend([change, (vip(0), addresses(4))]);
    assert!(!memory.told.unwritten && !memory.told.long && size(&path) < before.len());
    drop(memory);
    assert_eq!(Memory::new(path).load(Mono(0)), known);
}
