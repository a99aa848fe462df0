package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/follow"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

const (
	evidenceSessions   = 64
	evidenceStatements = 40_000
)

// runEvidence prints what the way from the journal into the recorder's store
// costs for small statements: journal, shipper and embedded NATS in this
// process, the recorder in one of its own, as on a host that has both.
func runEvidence(ctx context.Context, rounds int) error {
	got := map[string][]evidenceRun{}
	for range rounds {
		for _, live := range []bool{false, true} {
			r, err := evidenceOnce(ctx, live)
			if err != nil {
				return err
			}
			got[r.name] = append(got[r.name], r)
		}
	}
	fmt.Printf("### evidence: %d statements of %d sessions\n\n", evidenceStatements, evidenceSessions)
	fmt.Printf("| | records/s | statements lost | CPU, µs per record: journal | shipper and NATS | recorder | store, bytes per record | verified, records/s |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, name := range []string{"a backlog", "as they come"} {
		pick := func(f func(*evidenceRun) float64) float64 {
			var v []float64
			for i := range got[name] {
				v = append(v, f(&got[name][i]))
			}
			return median(v)
		}
		fmt.Printf("| %s | %.0f | %.0f | %.1f | %.1f | %.1f | %.0f | %.0f |\n", name,
			pick(func(r *evidenceRun) float64 { return r.rate }), pick(func(r *evidenceRun) float64 { return r.lost }),
			pick(func(r *evidenceRun) float64 { return r.journal }), pick(func(r *evidenceRun) float64 { return r.ship }),
			pick(func(r *evidenceRun) float64 { return r.record }), pick(func(r *evidenceRun) float64 { return r.bytes }),
			pick(func(r *evidenceRun) float64 { return r.verified }))
	}
	fmt.Println()
	return nil
}

// evidenceRun is one run; times are µs of a processor per record.
type evidenceRun struct {
	name                  string
	rate, lost            float64 // records per second, 0 when any was lost; statements
	journal, ship, record float64
	bytes                 float64
	verified              float64 // records per second, held against the transparency log
}

// evidenceOnce records statements, with shipper and recorder at work meanwhile
// (live) or only once all are in the journal.
func evidenceOnce(ctx context.Context, live bool) (out evidenceRun, err error) {
	dir, err := os.MkdirTemp("", "sallyport-bench-")
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	store := filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		return out, err
	}
	key, err := jetstream.ReadPrivateKey(filepath.Join(store, "recorder.key"))
	if err != nil {
		return out, err
	}
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{
		Host: "bench", Sync: true, Encode: ocsf.Append, Revive: ocsf.Revive, CheckpointEvery: -1,
	})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	out.name = "a backlog"
	before := processTime()
	var total uint64
	if !live {
		if total, err = talk(ctx, j); err != nil {
			return out, err
		}
		out.journal = perRecord(processTime()-before, total)
	}

	server, err := jetstream.StartServer(jetstream.Options{Dir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0", Host: "bench"})
	if err != nil {
		return out, err
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		return out, err
	}
	defer nc.Close()
	cmd, quit, err := evidenceRecorder(ctx, server, store)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, quit()) }()

	var released atomic.Uint64
	more := make(chan struct{}, 1)
	shipper := jetstream.Shipper{
		Host: "bench", Conn: nc, RecorderKey: key.Public().(ed25519.PublicKey),
		Source: jetstream.Source{
			Chain: j.Chain(), First: j.First, Last: j.Last, Release: j.Release,
			Open: func(from uint64) (jetstream.Reader, error) { return j.Reader(from), nil },
		},
		Released: func(seq uint64) {
			released.Store(seq)
			select {
			case more <- struct{}{}:
			default:
			}
		},
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	before = processTime()
	theirs, err := cpu(cmd.Process.Pid)
	if err != nil {
		return out, err
	}
	stop, err := profile("host.pprof")
	if err != nil {
		return out, err
	}
	defer stop()
	began := time.Now()
	wg.Go(func() { _ = shipper.Run(ctx) })
	if live {
		out.name = "as they come"
		if total, err = talk(ctx, j); err != nil {
			return out, err
		}
	}
	for limit := time.After(2 * time.Minute); released.Load() < total; {
		select {
		case <-more:
		case <-limit:
			return out, fmt.Errorf("evidence: after two minutes receipts cover %d of %d records", released.Load(), total)
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
	took := time.Since(began)
	out.ship = perRecord(processTime()-before, total)
	after, err := cpu(cmd.Process.Pid)
	if err != nil {
		return out, err
	}
	out.record = perRecord(after-theirs, total)
	held, size, verified, err := evidenceHeld(ctx, store, key, total)
	if err != nil {
		return out, err
	}
	out.verified = verified
	out.bytes = float64(size) / float64(total)
	if out.lost = evidenceStatements - float64(held); out.lost == 0 {
		out.rate = float64(total) / took.Seconds()
	}
	return out, nil
}

// talk is what sessions put into the journal for small statements that are
// answered at once. Each waits for its record, as a session does. It returns the
// number of the last record, once that is durable.
func talk(ctx context.Context, j *journal.Journal) (last uint64, err error) {
	type end struct {
		t   events.Ticket
		err error
	}
	ends := make(chan end, evidenceSessions)
	for i := range evidenceSessions {
		go func() {
			t, err := converse(ctx, j, fmt.Sprintf("0198c2b4-77aa-7000-8000-%012d", i), evidenceStatements/evidenceSessions)
			ends <- end{t, err}
		}()
	}
	for range evidenceSessions {
		e := <-ends
		if e.err == nil {
			e.err = e.t.Wait(ctx)
		}
		last, err = max(last, e.t.Seq()), errors.Join(err, e.err)
	}
	return last, err
}

func converse(ctx context.Context, j *journal.Journal, id string, n int) (outcome events.Ticket, err error) {
	s := &events.Session{
		ID: id, Host: "bench", Protocol: "postgres", Resource: "clinic", Destination: netip.MustParseAddrPort("10.0.0.5:5432"),
		Opened: time.Now(), Workload: "triage-bot", Actor: "agent-a", Principal: "dr.grey", Actors: []string{"agent-a"},
		Issuer: "https://idp.example.org", Proof: "oidc+pidfd", WorkloadProof: events.Proved{By: "subjects", Bound: []string{"pidfd"}},
		ActorProof: events.Proved{By: "oidc+pidfd", Bound: []string{"pidfd"}}, PrincipalProof: events.Proved{By: "oidc+pidfd", Bound: []string{"pidfd"}},
		Process: events.Process{PID: 4711, Start: 123456789, UID: 1000, GID: 1000, Exe: "/usr/bin/agent", Cgroup: "system.slice/agent.service", Comm: "agent"},
		User:    "agent", Database: "clinic",
	}
	sql := []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 4711")
	row := []byte("T\x00\x00\x00\x21\x00\x01abalance\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00D\x00\x00\x00\x0b\x00\x01\x00\x00\x00\x010C\x00\x00\x00\x0dSELECT 1\x00")
	for number := uint64(1); number <= uint64(n); number++ {
		now := time.Now()
		t, err := j.Append(&events.Event{
			Kind: events.Statement, Session: s, Time: now, Number: number, Command: "SELECT",
			Normalized: "SELECT abalance FROM pgbench_accounts WHERE aid = $1", Fingerprint: 0x1234567890abcdef,
			Literals: []events.Digest{{1, 2, 3, 4, 5, 6, 7, byte(number)}}, Verdict: events.Allow, Rules: []string{"relayed"},
			Objects: []string{"public.pgbench_accounts"}, Later: true,
		})
		if err == nil {
			_, err = j.Record(&events.Chunk{Session: s, Number: number, Kind: events.ChunkStatement, Time: now, Data: sql, Later: true})
		}
		var result events.Ticket
		if err == nil {
			result, err = j.Record(&events.Chunk{Session: s, Number: number, Kind: events.ChunkResult, Time: now, Data: row})
		}
		if err == nil {
			outcome, err = j.Append(&events.Event{
				Kind: events.Response, Session: s, Time: time.Now(), Number: number, Status: "ok", Rows: 1, Bytes: int64(len(row)),
				Duration: time.Since(now), Recorded: int64(len(row)), Hash: [32]byte{1, byte(number), byte(number >> 8)},
			})
		}
		if err == nil {
			err = t.Wait(ctx)
		}
		if err == nil {
			err = result.Written()
		}
		if err != nil {
			return outcome, err
		}
	}
	return outcome, nil
}

// evidenceRecorder starts the recorder; quit ends it.
func evidenceRecorder(ctx context.Context, s *jetstream.Server, store string) (cmd *exec.Cmd, quit func() error, err error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd = exec.CommandContext(ctx, exe, "record", s.URL(), s.SeedFile(jetstream.RoleRecorder), store)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	quit = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		return nil, nil, errors.Join(errors.New("evidence: the recorder did not start"), err, quit())
	}
	return cmd, quit, nil
}

// record is the recorder, until its standard input ends.
func record(ctx context.Context, url, seed, dir string) error {
	nc, err := jetstream.Connect(url, seed)
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := recorder.Open(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	key, err := jetstream.ReadPrivateKey(filepath.Join(dir, "recorder.key"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	stop, err := profile("recorder.pprof")
	if err != nil {
		return err
	}
	defer stop()
	following := make(chan error, 1)
	go func() { following <- follow.Run(ctx, store, follow.Options{Dir: recorder.LogFolder(dir), Key: key}) }()
	fmt.Print(".")
	err = (&recorder.Recorder{Conn: nc, Store: store, Key: key}).Run(ctx)
	cancel()
	return errors.Join(err, <-following)
}

// evidenceHeld verifies a store and counts its statements.
func evidenceHeld(ctx context.Context, dir string, key ed25519.PrivateKey, total uint64) (statements int, size int64, verified float64, err error) {
	s, err := recorder.OpenReader(dir)
	if err != nil {
		return 0, 0, 0, err
	}
	defer s.Close()
	_, public, err := tlog.Signer(key, "")
	if err != nil {
		return 0, 0, 0, err
	}
	keys := tlog.Keys{Log: public}
	entries, err := s.Entries(ctx, 0, math.MaxInt32)
	if err != nil {
		return 0, 0, 0, err
	}
	if err := recorder.AwaitLog(ctx, recorder.LogFolder(dir), keys, uint64(len(entries)), time.Minute); err != nil {
		return 0, 0, 0, err
	}
	start := time.Now()
	rep, err := recorder.Verify(ctx, s, recorder.Noted{Log: &recorder.Logged{Dir: recorder.LogFolder(dir), Keys: keys}})
	if err != nil {
		return 0, 0, 0, err
	}
	verified = float64(rep.Chains[0].Records) / time.Since(start).Seconds()
	if len(rep.Faults)+len(rep.Alarms) > 0 || len(rep.Chains) != 1 || rep.Chains[0].Last < total {
		return 0, 0, 0, fmt.Errorf("evidence: the store is not sound: %+v", rep)
	}
	sessions, err := s.Sessions(ctx, recorder.Filter{})
	if err != nil {
		return 0, 0, 0, err
	}
	for _, x := range sessions {
		statements += x.Statements
	}
	files, err := filepath.Glob(filepath.Join(dir, "records.db*"))
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			return 0, 0, 0, err
		}
		size += fi.Size()
	}
	return statements, size, verified, err
}

func perRecord(d time.Duration, n uint64) float64 { return float64(d.Microseconds()) / float64(n) }

// processTime is what this process has had of the processors.
func processTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// profile writes a CPU profile into the folder that SALLYPORT_BENCH_PROFILE
// names, if it does, until stop.
func profile(name string) (stop func(), err error) {
	dir := os.Getenv("SALLYPORT_BENCH_PROFILE")
	if dir == "" {
		return func() {}, nil
	}
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, pprof.StartCPUProfile(f)
}
