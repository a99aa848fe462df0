package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/jetstream"
)

const (
	siemRate    = 5000 // statements a second
	siemClients = 16
	siemSeconds = 10
	// siemMark makes the statements of the measurement known among others.
	siemMark = "siem_age"
)

// siem prints how old events are when a SIEM has them, while clients ask 5,000
// statements a second: the time on its clock less the time in the event. The SIEM
// is a plain client of NATS, with the key of the role that only reads.
func (b *bench) siem(ctx context.Context) error {
	var runs []siemRun
	for range b.o.rounds {
		r, err := b.siemOnce(ctx)
		if err != nil {
			return err
		}
		runs = append(runs, r)
	}
	fmt.Printf("### siem: %d statements/s asked by %d clients for %d s\n\n", siemRate, siemClients, siemSeconds)
	fmt.Println("The target is a second for the oldest, and as many statements as were answered.")
	fmt.Println("\n| round | answered/s | answered | statements in events | median, ms | 99 %, ms | worst, ms | worst of target |\n|---|---:|---:|---:|---:|---:|---:|---:|")
	for i, r := range runs {
		fmt.Printf("| %d | %.0f | %d | %d | %.1f | %.1f | %.1f | %.2f |\n", i+1, r.rate, r.answered, len(r.ages), r.age(.5), r.age(.99), r.age(1), r.age(1)/1000)
	}
	fmt.Println()
	return nil
}

// siemRun is one run: ages are in ms, in order of size.
type siemRun struct {
	answered int
	rate     float64 // answered in a second
	ages     []float64
}

func (r *siemRun) age(q float64) float64 {
	if len(r.ages) == 0 {
		return 0
	}
	return r.ages[int(q*float64(len(r.ages)-1))]
}

func (b *bench) siemOnce(ctx context.Context) (r siemRun, err error) {
	option, err := nats.NkeyOptionFromSeed(b.stand.Seed(jetstream.RoleSIEM))
	if err != nil {
		return r, err
	}
	nc, err := nats.Connect(b.stand.NATS(), option, nats.CustomInboxPrefix("_INBOX_siem"))
	if err != nil {
		return r, err
	}
	defer nc.Close()
	in := &siemInbox{}
	sub, err := nc.Subscribe("sallyport.audit.>", in.take)
	if err != nil {
		return r, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return r, err
	}
	if err := nc.Flush(); err != nil {
		return r, err
	}
	w := b.ways()
	out, err := b.output(ctx, w[len(w)-1], "bench", "ask", strconv.Itoa(siemRate), strconv.Itoa(siemClients), strconv.Itoa(siemSeconds))
	if err != nil {
		return r, err
	}
	var seconds float64
	if _, err := fmt.Sscan(string(out), &r.answered, &seconds); err != nil {
		return r, fmt.Errorf("%w: %s", err, out)
	}
	r.rate = float64(r.answered) / seconds
	// What is late still counts, for as long as it keeps coming; one that comes twice
	// or was not asked is in the count too.
	for quiet := 0; quiet < 5; quiet++ {
		had := in.count()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return r, ctx.Err()
		}
		if in.count() != had {
			quiet = 0
		}
	}
	if n, err := sub.Dropped(); err != nil || n > 0 {
		return r, fmt.Errorf("the SIEM's client dropped %d messages (%w)", n, err)
	}
	if r.ages, err = in.ages(); err != nil {
		return r, err
	}
	if len(r.ages) != r.answered {
		return r, fmt.Errorf("%d statements were answered, the SIEM has %d", r.answered, len(r.ages))
	}
	return r, nil
}

// siemInbox keeps what came, and when: it is read once all is over, so that the
// reading costs no time meanwhile.
type siemInbox struct {
	mu   sync.Mutex
	got  []*nats.Msg
	when []time.Time
}

func (s *siemInbox) take(m *nats.Msg) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got, s.when = append(s.got, m), append(s.when, now)
}

func (s *siemInbox) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// ages are those of the measurement's statements, in order, in ms.
func (s *siemInbox) ages() (out []float64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.got {
		if !strings.HasSuffix(m.Subject, "."+events.Statement.String()) {
			continue
		}
		for line := range bytes.Lines(m.Data) {
			var e struct {
				Time  time.Time `json:"time_dt"`
				Query struct {
					Text string `json:"query_string"`
				} `json:"query_info"`
			}
			if err := json.Unmarshal(line, &e); err != nil {
				return nil, fmt.Errorf("%s: %w", m.Subject, err)
			}
			if strings.Contains(e.Query.Text, siemMark) {
				out = append(out, float64(s.when[i].Sub(e.Time).Microseconds())/1000)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}
