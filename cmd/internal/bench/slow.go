package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/tlog"
	"sallyport.dev/sallyport/protocols/postgres/postgrestest"
)

// The targets of the recorder's store.
const (
	slowIngest = 20_000 // records a second
	slowVerify = 200_000
	slowSearch = 200 * time.Millisecond
)

// slowOptions say what runSlow fills stores with.
type slowOptions struct {
	events   int
	sessions int
	searches int
	stores   string
	dir      string
}

// slowStore is a store of one kind, filled in one way.
type slowStore struct {
	kind  string // "SQLite" or "PostgreSQL"
	url   string // what --store takes
	state string // folder of keys and log
	data  string // folder that holds the store
	slowShape
}

// slowShape is what a store is filled with: so many events in sessions of so many
// statements.
type slowShape struct{ events, statements int }

// sessions is how many the events make: each has an event for its open and close.
func (s slowShape) sessions() int { return s.events / (s.statements + 2) }

// bytes is a bound on what a store takes of a disk, with its log: twice what was
// measured of an event with its transcript, and of a session with its indexes.
func (s slowShape) bytes(kind string) int64 {
	event, session := int64(400), int64(2000)
	if kind == "PostgreSQL" {
		event, session = 800, 4000
	}
	return int64(s.events)*event + int64(s.sessions())*session
}

// runSlow fills stores of each kind, and prints how fast that goes, how long
// searches take then, and how fast verify reads it all.
func runSlow(ctx context.Context, args []string) error {
	var o slowOptions
	f := flag.NewFlagSet("bench slow", flag.ContinueOnError)
	f.IntVar(&o.events, "events", 10_000_000, "events that are searched and verified, in sessions of 40 statements")
	f.IntVar(&o.sessions, "sessions", 1_000_000, "sessions of one statement each that are listed")
	f.IntVar(&o.searches, "searches", 100, "how often each search is made")
	f.StringVar(&o.stores, "stores", "sqlite,postgresql", "kinds of stores")
	f.StringVar(&o.dir, "dir", os.TempDir(), "folder for the stores")
	if err := f.Parse(args); err != nil {
		return err
	}
	if o.events < 1000 || o.sessions < 1000 || o.searches < 1 {
		return errors.New("give 1,000 events and sessions, and one search, at least")
	}
	dir, err := os.MkdirTemp(o.dir, "sallyport-bench-slow-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("Measured on %s, %d processors, kernel %s, %s.\n\n", time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), kernel(), runtime.Version())
	for _, shape := range []slowShape{{o.events, 40}, {3 * o.sessions, 1}} {
		for _, kind := range []string{"SQLite", "PostgreSQL"} {
			if !slices.Contains(strings.Split(o.stores, ","), strings.ToLower(kind)) {
				continue
			}
			// One at a time: the disk has to hold the largest alone.
			if err := o.one(ctx, kind, shape, dir); err != nil {
				return fmt.Errorf("%s, %d events: %w", kind, shape.events, err)
			}
		}
	}
	return nil
}

func (o *slowOptions) one(ctx context.Context, kind string, shape slowShape, parent string) (err error) {
	if err := room(parent, shape.bytes(kind)); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &slowStore{kind: kind, url: filepath.Join(dir, "store"), state: filepath.Join(dir, "store"), data: dir, slowShape: shape}
	if err := os.Mkdir(s.state, 0o700); err != nil {
		return err
	}
	if kind == "PostgreSQL" {
		server, err := postgrestest.Start(`CREATE ROLE evidence LOGIN; GRANT CREATE ON DATABASE postgres TO evidence`, "fsync=on", "max_wal_size=1GB")
		if err != nil {
			return err
		}
		defer server.Stop()
		s.url = fmt.Sprintf("postgres://evidence@/postgres?host=%s&port=%d", server.Dir, server.Addr.Port())
		s.data = server.Dir
	}
	fmt.Printf("### %s: %d events in %d sessions\n\n", kind, shape.events, shape.sessions())
	filled, err := s.fill(ctx)
	if err != nil {
		return err
	}
	size, err := folderSize(s.data)
	if err != nil {
		return err
	}
	logSize, err := folderSize(recorder.LogFolder(s.state))
	if err != nil {
		return err
	}
	fmt.Printf("%d records were stored, each event with its transcript: %d MB, %.0f bytes a record, the log %d MB (free before: at least %d MB wanted).\n\n",
		filled.Records, size>>20, float64(size)/float64(filled.Records), logSize>>20, shape.bytes(kind)>>20)
	fmt.Print("| | measured | target | ratio |\n|---|---:|---:|---:|\n")
	row := func(name string, got, want float64) {
		fmt.Printf("| %s | %.0f | %.0f | %.2f |\n", name, got, want, got/want)
	}
	row("stored, records/s", float64(filled.Records)/filled.Seconds, slowIngest)
	row("the first tenth of these, records/s", filled.First, slowIngest)
	row("the last tenth, records/s", filled.Last, slowIngest)
	fmt.Printf("| memory of the recorder's store after a tenth, and at the end | %d, %d MB | | %.2f |\n", filled.Early>>10, filled.Late>>10, float64(filled.Late)/float64(filled.Early))
	if err := s.verify(ctx, filled.Records, row); err != nil {
		return err
	}
	fmt.Println()
	if err := s.search(ctx, o.searches); err != nil {
		return err
	}
	return s.commands(ctx)
}

// room refuses to begin what the disk can't hold.
func room(dir string, want int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	free := int64(st.Bavail) * st.Bsize
	if fmt.Fprintf(os.Stderr, "%s: up to %d MB will be used, %d MB are free\n", dir, want>>20, free>>20); free < want+want/4 {
		return fmt.Errorf("%s has %d MB free, and %d MB may be needed, with a quarter to spare: name another folder with -dir, or fewer -events and -sessions", dir, free>>20, want>>20)
	}
	return nil
}

func folderSize(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		fi, err := d.Info()
		if err == nil {
			n += fi.Size()
		}
		return ignoreGone(err)
	})
	return n, err
}

// ignoreGone is for files of a server that works.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// fill has a process of its own fill the store.
func (s *slowStore) fill(ctx context.Context) (out slowFilled, err error) {
	exe, err := os.Executable()
	if err != nil {
		return out, err
	}
	cmd := exec.CommandContext(ctx, exe, "fill", s.url, s.state, strconv.Itoa(s.events), strconv.Itoa(s.statements))
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("fill: %w", err)
	}
	return out, json.Unmarshal(b, &out)
}

// verify runs sallyport verify with the keys of the host and of the log.
func (s *slowStore) verify(ctx context.Context, records int, row func(name string, got, want float64)) error {
	key, err := jetstream.ReadPrivateKey(filepath.Join(s.state, "log.key"))
	if err != nil {
		return err
	}
	_, public, err := tlog.Signer(key, "")
	if err != nil {
		return err
	}
	host, err := jetstream.ReadPrivateKey(filepath.Join(s.state, "host.key"))
	if err != nil {
		return err
	}
	logKey, hostKeys := filepath.Join(s.state, "log.pub"), filepath.Join(s.state, "hosts.keys")
	line := events.HostKeyLine(slowHost, host.Public().(ed25519.PublicKey))
	if err := errors.Join(os.WriteFile(logKey, []byte(public+"\n"), 0o600), os.WriteFile(hostKeys, []byte(line+"\n"), 0o600)); err != nil {
		return err
	}
	out, took, used, rss, err := s.sallyport(ctx, "verify", "--log", recorder.LogFolder(s.state), "--log-key", logKey, "--host-keys", hostKeys, "--json")
	if err != nil {
		return err
	}
	var rep struct {
		Sound bool
		Store recorder.Report
	}
	if err := json.Unmarshal(out, &rep); err != nil || !rep.Sound || len(rep.Store.Chains) != 1 || rep.Store.Chains[0].Records != uint64(records) || rep.Store.Log == nil || rep.Store.Log.Unlogged > 0 {
		return fmt.Errorf("verify: %+v (%w)", rep, err)
	}
	row("sallyport verify, chain, signatures and log, records/s", float64(records)/took.Seconds(), slowVerify)
	fmt.Printf("| time of processors that it took, s | %.2f | | |\n", used.Seconds())
	fmt.Printf("| memory of sallyport verify | %d MB | | |\n", rss>>10)
	return nil
}

// sallyport runs a command of the program beside this one on the store.
func (s *slowStore) sallyport(ctx context.Context, args ...string) (out []byte, took, used time.Duration, rss int64, err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, 0, 0, 0, err
	}
	args = append(args, "--store", s.url)
	if recorder.IsURL(s.url) {
		args = append(args, "--state", s.state)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(exe), "sallyport"), args...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	if out, err = cmd.Output(); err != nil {
		return nil, 0, 0, 0, fmt.Errorf("sallyport %s: %w", strings.Join(args, " "), err)
	}
	p := cmd.ProcessState
	return out, time.Since(began), p.UserTime() + p.SystemTime(), p.SysUsage().(*syscall.Rusage).Maxrss, nil
}
