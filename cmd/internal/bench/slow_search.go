package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events/recorder"
	"sallyport.dev/sallyport/events/recorder/tlog"
)

// search asks what is in the store, each time of another person and another day.
func (s *slowStore) search(ctx context.Context, times int) error {
	db, err := recorder.OpenReader(s.url)
	if err != nil {
		return err
	}
	defer db.Close()
	length := time.Duration(s.events) * slowApart
	window := min(24*time.Hour, length/2)
	r := rand.New(rand.NewPCG(1, 2))
	until := func() time.Time { return slowStart.Add(window + time.Duration(r.Int64N(int64(length-window)+1))) }
	person := func() string { return slowPerson(r.IntN(slowPeople)) }
	fmt.Printf("| search, 100 sessions at most | found | median, ms | worst, ms | worst of target |\n|---|---:|---:|---:|---:|\n")
	for _, q := range []struct {
		name   string
		filter func() recorder.Filter
	}{
		{"an identity and a day", func() recorder.Filter {
			u := until()
			return recorder.Filter{Identity: person(), Since: u.Add(-window), Until: u}
		}},
		{"a principal and a day", func() recorder.Filter {
			u := until()
			return recorder.Filter{Principal: person(), Since: u.Add(-window), Until: u}
		}},
		{"an identity", func() recorder.Filter { return recorder.Filter{Identity: person()} }},
		{"a resource and a day", func() recorder.Filter {
			u := until()
			return recorder.Filter{Resource: "clinic", Since: u.Add(-window), Until: u}
		}},
		{"the newest", func() recorder.Filter { return recorder.Filter{} }},
		{"an identity that is not there", func() recorder.Filter { return recorder.Filter{Identity: "nobody"} }},
		{"what was blocked", func() recorder.Filter { return recorder.Filter{Verdict: "block"} }},
		{"what was denied: nothing", func() recorder.Filter { return recorder.Filter{Verdict: "deny"} }},
		{"a workload that was denied nothing", func() recorder.Filter {
			return recorder.Filter{Workload: "bot-07", Verdict: "deny"}
		}},
		{"a workload's day with a statement on clinic.patients", func() recorder.Filter {
			u := until()
			return recorder.Filter{Workload: "bot-00", Table: "clinic.patients", Since: u.Add(-window), Until: u}
		}},
	} {
		var ms []float64
		found, worst := 0, 0.0
		for range times {
			f := q.filter()
			f.Limit = 100
			began := time.Now()
			list, err := db.Sessions(ctx, f)
			if err != nil {
				return fmt.Errorf("%s: %w", q.name, err)
			}
			took := float64(time.Since(began).Microseconds()) / 1000
			ms, worst, found = append(ms, took), max(worst, took), found+len(list)
		}
		fmt.Printf("| %s | %.0f | %.2f | %.2f | %.2f |\n", q.name, float64(found)/float64(times), median(ms), worst, worst/float64(slowSearch.Milliseconds()))
	}
	fmt.Println()
	return nil
}

// commands runs sallyport sessions as a person does, and looks at its memory.
func (s *slowStore) commands(ctx context.Context) error {
	last := fmt.Sprintf("%08x", s.sessions()-1)
	fmt.Printf("| command | lines | ms | processors, ms | memory, MB |\n|---|---:|---:|---:|---:|\n")
	for _, args := range [][]string{
		{"ls", "--identity", slowPerson(7), "--limit", "100"},
		{"ls", "--limit", "100"},
		{"ls", "--verdict", "block", "--limit", "100"},
		{"show", last},
		{"ls", "--workload", "bot-07"},
		{"ls"},
	} {
		out, took, used, rss, err := s.sallyport(ctx, append([]string{"sessions", "--reads", s.state + "/reads"}, args...)...)
		if err != nil {
			return err
		}
		fmt.Printf("| `sallyport sessions %s` | %d | %d | %d | %d |\n", strings.Join(args, " "), strings.Count(string(out), "\n"), took.Milliseconds(), used.Milliseconds(), rss>>10)
	}
	fmt.Println()
	return nil
}

func tlogKeys(key ed25519.PrivateKey) (keys tlog.Keys) {
	_, keys.Log, _ = tlog.Signer(key, "") // of a key that was read
	return keys
}

// awaitLog waits until the log has all that is stored.
func awaitLog(ctx context.Context, db *recorder.DB, state string, keys tlog.Keys) error {
	n := uint64(0)
	for {
		const some = 100_000
		entries, err := db.Entries(ctx, n, some)
		if err != nil {
			return err
		}
		if n += uint64(len(entries)); len(entries) < some {
			break
		}
	}
	return recorder.AwaitLog(ctx, recorder.LogFolder(state), keys, n, 10*time.Minute)
}

// most is the most memory that this process had, in KiB.
func most() (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.ParseInt(strings.Fields(v)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no VmHWM")
}
