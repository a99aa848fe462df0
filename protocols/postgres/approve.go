package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgproto3/v2"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/token"
)

// A statement that needs an approval is refused with the request's ID until it has
// one, or held: the client stays connected, is told what it waits for, and can
// withdraw it by a cancel request or by going. What is approved is what the server
// is sent: the text, the parameters as they are bound, and what the session's names
// in the text stand for.

// wording is the rest of what a statement is. It is set for one decision.
type wording struct {
	c     *conn
	types []uint32
	binds []byte // the body of a Bind; nil: it has no parameters
	sent  string // then: the text that the server has, "" where that is not known
	st    *statement

	version uint64 // of the catalog that it was analysed by; see conn.analysed
	waited  bool   // for a decision
	text    []byte // the client's own, borrowed
	simple  bool   // it came in a Query
	scope   *policy.Scope
}

// Exact implements policy.Wording.
func (w *wording) Exact() (x policy.Exact, err error) {
	if err := w.still(); err != nil {
		return x, err
	}
	x.Comments = token.Comments(w.c.req.Text)
	x.Settings, x.Meaning = w.c.readings.list(), w.st.an.Meaning
	if slices.Contains(w.st.an.Commands, "copy_from") {
		x.Unseen = "the rows that it brings"
	}
	switch {
	case w.c.unnoted.unread:
		return x, errors.New("its session has sent what was not looked at, before anything asked for an approval: connect again")
	case w.c.unnoted.set:
		now, err := w.c.settingsNow()
		if err != nil {
			return x, err
		}
		x.Settings = append(x.Settings, now...)
	}
	for _, p := range w.c.named {
		text := p.sql
		if p.sent == "" {
			text = p.origin
		}
		if text == "" {
			return x, errors.New("it executes what was prepared before anything asked for an approval: prepare it again")
		}
		x.Names = append(x.Names, text)
		x.Names = p.appendTypes(x.Names)
	}
	for _, p := range w.c.fetched {
		switch {
		case p.cover == nil || p.stmt == nil && p.origin == "":
			return x, errors.New("it takes rows from a cursor that was opened without one: open it again")
		case p.stmt == nil:
			x.Names = append(x.Names, p.origin)
		default:
			x.Names = append(x.Names, p.exact()...)
		}
	}
	if w.binds == nil {
		return x, nil
	}
	x.Parameters, err = bound(w.binds, w.types)
	return x, err
}

// boundText has parameters as an approver reads them; others have another text.
func boundText(ps []policy.Parameter) string {
	b := []byte("bound with")
	for i, p := range ps {
		b = fmt.Appendf(b, "\n$%d, declared type %d: ", i+1, p.Type)
		switch {
		case p.Null:
			b = append(b, "NULL"...)
		case p.Binary:
			b = fmt.Appendf(b, "binary %x", p.Value)
		default:
			b = strconv.AppendQuote(b, string(p.Value))
		}
	}
	return string(b)
}

// bound returns the parameters of a Bind's body.
func bound(binds []byte, types []uint32) (out []policy.Parameter, err error) {
	m := cursor{b: binds}
	m.str()
	m.str()
	formats := make([]int16, 0, 8)
	for range m.count() {
		formats = append(formats, int16(m.int16()))
	}
	n := m.count()
	for i := range n {
		var p policy.Parameter
		if i < len(types) {
			p.Type = types[i]
		}
		switch len(formats) {
		case 0:
		case 1:
			p.Binary = formats[0] == 1
		default:
			if i >= len(formats) {
				return nil, malformed('B')
			}
			p.Binary = formats[i] == 1
		}
		if size := m.int32(); size >= 0 {
			p.Value = m.take(int(size))
		} else {
			p.Null = true
		}
		out = append(out, p)
	}
	if m.bad {
		return nil, malformed('B')
	}
	return out, nil
}

// appendTypes appends the types that were declared of a statement's parameters.
func (p *prepared) appendTypes(names []string) []string {
	if len(p.types) == 0 {
		return names
	}
	return append(names, fmt.Sprintf("with parameters of the types %d", p.types))
}

// exact is what a portal of the protocol is: its text, and what that is bound with.
func (p *portal) exact() []string {
	names := p.stmt.appendTypes([]string{p.stmt.sql})
	if len(p.digests) > 0 {
		text := fmt.Sprintf("bound with %x", p.binds)
		if with, err := bound(p.binds, p.stmt.types); err == nil {
			text = boundText(with)
		}
		names = append(names, text)
	}
	return names
}

// asking is what a request has where it may have to be approved.
type asking struct {
	hold     func(context.Context, policy.Held) (context.Context, func())
	estimate func(context.Context) policy.Estimate
}

// mayAsk has the request c.req say what an approval of it would be of. Where no
// rule asks for one it costs nothing.
func (c *conn) mayAsk(sc *policy.Scope, st *statement) {
	if !sc.Approves {
		return
	}
	an := st.an
	c.wording.c, c.wording.st, c.wording.version = c, st, c.analysed(st)
	c.wording.scope = sc
	c.early.Store(earlyAsked)
	if c.asking.hold == nil {
		c.asking = asking{c.onHold, c.estimate} // once: each would be allocated anew
	}
	c.req.Wording, c.req.OnHold, c.req.Under, c.req.Estimate = &c.wording, c.asking.hold, c.under, c.asking.estimate
	if c.under == nil && len(an.Commands) == 1 && len(c.fetched) == 1 && (an.Commands[0] == "fetch" || an.Commands[0] == "move") {
		c.req.Under = c.fetched[0].cover // it takes what was approved when it was opened
	}
}

// underOf is what an Execute of a portal runs under: what it was bound under.
func underOf(p *portal, kind policy.RequestKind) *policy.Cover {
	if p.cover == nil && kind == policy.PrepareReq {
		return &noCover
	}
	return p.cover
}

// noCover is of what was bound when nothing asked.
var noCover policy.Cover

const (
	goneEvery         = 200 * time.Millisecond // a look whether the client is there
	defaultAliveEvery = 15 * time.Second       // see Options.AliveEvery
)

// onHold implements policy.Request.OnHold.
func (c *conn) onHold(ctx context.Context, h policy.Held) (context.Context, func()) {
	wait, cancel := context.WithCancelCause(ctx)
	undrain := context.AfterFunc(c.ctx, func() { cancel(policy.ErrClosing) })
	uncut := context.AfterFunc(c.s.Cut(), func() { cancel(policy.ErrClosing) })
	withdraw := func() { cancel(policy.ErrCancelled) }
	c.held.Store(&withdraw)
	if c.early.Load() == earlyCancelled {
		withdraw()
	}
	c.wording.waited = true
	if err := c.barrier(); err != nil { // what came before is answered first
		cancel(policy.ErrHungUp)
	} else if err := c.s.Tell(heldNotice(&h, "waits for an approval")); err != nil {
		cancel(policy.ErrHungUp)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		look := time.NewTicker(goneEvery)
		defer look.Stop()
		alive := time.NewTicker(c.p.aliveEvery())
		defer alive.Stop()
		for {
			select {
			case <-stop:
				return
			case <-wait.Done():
				return
			case <-alive.C:
				_ = c.s.Tell(heldNotice(&h, "still waits for an approval")) // whoever has gone is seen below
				continue
			case <-look.C:
			}
			if c.s.Left() || c.answersNoMore() {
				cancel(policy.ErrHungUp)
				return
			}
		}
	})
	return wait, func() {
		c.held.Store(nil)
		close(stop)
		wg.Wait()
		undrain()
		uncut()
		cancel(nil)
	}
}

// answersNoMore reports that the server has gone.
func (c *conn) answersNoMore() bool {
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	return c.queue.over
}

// What becomes of a cancel request that comes when a statement's request for an
// approval is there already, and the wait is not: see conn.early.
const (
	earlyNone uint32 = iota
	earlyAsked
	earlyCancelled
)

// withdrawHeld ends the wait of a session that is held, if it is, or is about to be.
func (c *conn) withdrawHeld() bool {
	f := c.held.Load()
	if f == nil && c.early.CompareAndSwap(earlyAsked, earlyCancelled) {
		f = c.held.Load() // it may be held by now
	}
	if f == nil {
		return false
	}
	(*f)()
	return true
}

func heldNotice(h *policy.Held, what string) []byte {
	until := h.Until.UTC().Format(time.RFC3339)
	b, err := (&pgproto3.NoticeResponse{
		Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: codeAwaits,
		Message: fmt.Sprintf("sallyport: the statement %s by rule %q: request %s, until %s", what, h.Rule, h.ID, until),
		Detail:  oneLine(&facts{Refused: kindApproval, Rules: []string{h.Rule}, Approval: h.ID, State: policy.Awaited.String(), Until: until}),
		Hint:    "Wait, or cancel the statement to withdraw the request.",
	}).Encode(nil)
	if err != nil {
		panic(err) // of text it can't fail
	}
	return b
}

// unapproved puts into the client's words how its request stands.
func (r *refusal) unapproved(d policy.Decision) {
	open := d.Open()
	if open == nil {
		return
	}
	r.code, r.approval = codeAwaits, open
	switch {
	case errors.Is(d.Held(), policy.ErrCancelled):
		r.code, r.message = codeCancelled, "sallyport: canceling statement due to user request: request "+open.ID+" for an approval is withdrawn"
		r.hint = "Send it again: that is a new request."
	case open.State == policy.Denied:
		r.code = codeDenied
	}
}
