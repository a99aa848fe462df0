package desk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/policy/approval"
)

// Subject is where a host is asked.
func Subject(host string) string { return "sallyport.approvals." + host }

const (
	partBytes  = 512 << 10 // of an answer in one message
	maxAnswer  = 128 << 20 // bytes of an answer
	atOnce     = 4         // questions that are answered at once
	maxWaiting = 256       // questions that wait for it
	answerTime = 20 * time.Second
	headerPart = "Sallyport-Part" // of an answer: "1/3"
)

// Serve answers what a host is asked over NATS until ctx ends: then it returns nil.
// It ends too where the host may not be asked there.
func (d *Desk) Serve(ctx context.Context, nc *nats.Conn, host string, log *slog.Logger) error {
	sub, err := nc.SubscribeSync(Subject(host))
	if err != nil {
		return fmt.Errorf("listen to %s: %w", Subject(host), err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(maxWaiting, maxWaiting*MaxAsk); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, atOnce)
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, nats.ErrSlowConsumer):
			log.Warn("questions about approvals come faster than they are answered: some get no answer")
			continue
		case err != nil:
			return fmt.Errorf("listen to %s: %w", Subject(host), err)
		case !isInbox(m.Reply):
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := d.reply(ctx, m, host); err != nil {
				log.Warn("a question about approvals, asked over NATS, is refused", "error", err)
			}
		})
	}
}

// isInbox: an answer goes to an inbox, or to where NATS has it cross to one of another
// account; who asks can't have it published elsewhere in this host's name.
func isInbox(reply string) bool {
	return strings.HasPrefix(reply, "_INBOX") || strings.HasPrefix(reply, "_R_.")
}

func (d *Desk) reply(ctx context.Context, m *nats.Msg, host string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	q, why := ParseAsk(m.Data)
	var a *Answer
	if why == nil {
		a, why = d.Answer(ctx, q)
	}
	if why != nil {
		a = &Answer{Error: why.Error()}
	}
	a.Host = host
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	n := max(1, (len(b)+partBytes-1)/partBytes)
	for i := range n {
		out := nats.NewMsg(m.Reply)
		out.Header.Set(headerPart, fmt.Sprintf("%d/%d", i+1, n))
		out.Data = b[i*partBytes : min(len(b), (i+1)*partBytes)]
		if err := m.RespondMsg(out); err != nil {
			return err
		}
	}
	return why
}

// Client asks hosts.
type Client struct {
	Conn    *nats.Conn
	Timeout time.Duration // of a question; 0 is 20 s
}

// ErrAway: a host does not answer. What was asked for may have been done all the same.
var ErrAway = errors.New("does not answer: see that sallyport runs there, that evidence.nats.approvals is true, and that NATS lets this user ask")

// Refused is why a host refused, in its words.
type Refused struct{ Host, Text string }

// Error implements error.
func (r *Refused) Error() string { return r.Text }

// Ask asks a host. Errors are a *Refused where the host said it.
func (c *Client) Ask(ctx context.Context, host string, q *Ask) (*Answer, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	limit := c.Timeout
	if limit == 0 {
		limit = answerTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	b, err = c.request(ctx, host, b)
	if err != nil {
		return nil, err
	}
	a := &Answer{}
	if err := json.Unmarshal(b, a); err != nil {
		return nil, fmt.Errorf("host %s: its answer is not understood: it is of another version", host)
	}
	switch {
	case a.Host != host:
		return nil, fmt.Errorf("host %s: another host (%.64q) answers for it: look at who may subscribe to %s", host, a.Host, Subject(host))
	case a.Error != "":
		return nil, &Refused{host, a.Error}
	case q.OfOne() && (len(a.Entries) != 1 || a.Entries[0].ID != q.ID):
		return nil, fmt.Errorf("host %s: it answers for another request", host)
	case a.ofOther(host, q):
		return nil, fmt.Errorf("host %s: what it shows is another host's, or it does not say whose, as earlier versions did: what is signed for one counts on no other", host)
	}
	return a, nil
}

// ofOther reports that an answer holds what is of another host: who signs it signs for
// that one. What was opened before openings named their host names none.
func (a *Answer) ofOther(host string, q *Ask) bool {
	return a.Opening != nil && a.Opening.Host != host ||
		slices.ContainsFunc(a.Entries, func(e approval.Entry) bool { return e.Host != host && (q.Do == Show || e.Host != "") }) ||
		slices.ContainsFunc(a.Glasses, func(g approval.Glass) bool { return g.Host != host && g.Host != "" })
}

func (c *Client) request(ctx context.Context, host string, ask []byte) (all []byte, err error) {
	away := fmt.Errorf("host %s %w", host, ErrAway)
	inbox := c.Conn.NewInbox()
	sub, err := c.Conn.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("ask host %s: %w", host, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := c.Conn.PublishRequest(Subject(host), inbox, ask); err != nil {
		return nil, fmt.Errorf("ask host %s: NATS can't be reached: %w", host, err)
	}
	for i := 1; ; i++ {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w (%w)", away, err)
		}
		if len(m.Data) == 0 && m.Header.Get("Status") != "" { // nobody listens there
			return nil, away
		}
		at, of, _ := strings.Cut(m.Header.Get(headerPart), "/")
		n, err := strconv.Atoi(of)
		if err != nil || at != strconv.Itoa(i) || n < i || len(all)+len(m.Data) > maxAnswer {
			return nil, fmt.Errorf("host %s: its answer is not understood: it is of another version, or several answer", host)
		}
		if all = append(all, m.Data...); i == n {
			return all, nil
		}
	}
}
