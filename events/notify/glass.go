package notify

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"sallyport.dev/sallyport/events/ocsf"
)

// What people must know of emergency access is told one by one, before anything else,
// in a share of a channel's messages that is its own.

// glassStep is what one event tells of emergency access.
type glassStep struct {
	Request        // Until: it is open until then, or is to be reviewed by then
	step    string // "opened", "closed", "expired" or "reviewed"
	by      string // of all but "expired"
}

// Bounds of emergency access, as policy has them.
const (
	mostGlassOpen = 24 * time.Hour
	mostReview    = 720 * time.Hour
	// mostGlass is what a host may have that somebody is still to be told of: more
	// than it can have.
	mostGlass = 200
)

// covers of events that are of emergency access.
const coversGlass = "break-glass"

// readGlass returns what an event tells of emergency access, nil where nobody has to
// know.
func readGlass(r Request, a *ocsf.Approval) (*glassStep, error) {
	g := &glassStep{Request: r, step: a.Step, by: inert(a.Approver)}
	longest := mostGlassOpen
	switch a.Step {
	case "opened":
	case "closed", "expired":
		longest += mostReview
	case "reviewed":
		return g, nil
	default:
		return nil, nil
	}
	if g.Until.Sub(g.Asked) > longest+slack {
		return nil, errors.New("it says that emergency access lasts longer than any does")
	}
	return g, nil
}

// glassNotice is a Notice of emergency access, as it is kept.
type glassNotice struct {
	Request Request `json:"request"`
	By      string  `json:"by,omitempty"`
	End     *End    `json:"end,omitempty"`
}

// keepGlass keeps whom to tell of a step of emergency access. One whose host says no
// more counts as ended after its time.
func (n *Notifier) keepGlass(tx *sql.Tx, g *glassStep, now time.Time) error {
	if g.Asked.After(now) {
		g.Asked = now.UTC()
	}
	if g.step == "reviewed" {
		_, err := tx.Exec(`UPDATE urgent SET state = ? WHERE host = ? AND glass = ? AND what <> ? AND state = ?`, dropped, g.Host, g.ID, GlassOpened, waiting)
		return err
	}
	var others int
	if err := tx.QueryRow(`SELECT count(DISTINCT glass) FROM urgent WHERE host = ? AND glass <> ? AND state = ?`, g.Host, g.ID, waiting).Scan(&others); err != nil {
		return err
	}
	if others >= mostGlass {
		n.refuse(g.Host, errors.New("it has more emergency access than a host can have"))
		return nil
	}
	tell := n.Settings.glass(&g.Request).Tell
	plan := func(what What, due time.Time, body glassNotice) error {
		if now.Sub(due) > mostWait {
			return nil // the stream is read anew
		}
		b, err := json.Marshal(&body)
		for i := 0; i < len(tell) && err == nil; i++ {
			_, err = tx.Exec(`INSERT INTO urgent(host, glass, what, channel, due, body) VALUES(?1, ?2, ?3, ?4, ?5, ?6)
				ON CONFLICT DO UPDATE SET due = ?5, body = ?6 WHERE state = ?7`, g.Host, g.ID, what, tell[i], due.UnixMilli(), b, waiting)
		}
		return err
	}
	if g.step == "opened" {
		silent := glassNotice{Request: g.Request, End: &End{Step: "expired", At: g.Until}}
		silent.Request.Until = time.Time{} // the host has not said by when
		return errors.Join(
			plan(GlassOpened, g.Asked, glassNotice{Request: g.Request, By: g.by}),
			plan(GlassEnded, g.Until.Add(overdue), silent))
	}
	body := glassNotice{Request: g.Request, End: &End{Step: g.step, By: g.by, At: g.Asked}}
	return errors.Join(plan(GlassEnded, g.Asked, body), plan(GlassOverdue, g.Until, body))
}

// urgent is a Notice of emergency access that is due.
type urgent struct {
	glassNotice
	id, due int64
	what    What
	tries   int
}

// nextGlass returns what a channel is to be told of emergency access first, nil for
// nothing.
func (s *store) nextGlass(channel string, now time.Time) (u *urgent, err error) {
	err = s.in(func(tx *sql.Tx) error {
		k := &urgent{}
		var body []byte
		err := tx.QueryRow(`SELECT id, due, what, tries, body FROM urgent WHERE channel = ? AND state = ? AND due <= ? ORDER BY due, id LIMIT 1`,
			channel, waiting, now.UnixMilli()).Scan(&k.id, &k.due, &k.what, &k.tries, &body)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			err = json.Unmarshal(body, &k.glassNotice)
		}
		u = k
		return err
	})
	return u, err
}

// settle keeps what came of a Notice of emergency access.
func (s *store) settle(u *urgent, state int) error {
	return s.in(func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE urgent SET state = ? WHERE id = ?`, state, u.id)
		return err
	})
}

// putOff is later of a Notice of emergency access.
func (s *store) putOff(u *urgent, until time.Time) error {
	return s.in(func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE urgent SET tries = tries + 1, due = ? WHERE id = ?`, until.UnixMilli(), u.id)
		return err
	})
}

// tellGlass sends one Notice of emergency access, and keeps that it did, or when to try
// again.
func (w *worker) tellGlass(ctx context.Context, u *urgent, now time.Time) error {
	r := &u.Request
	log := w.n.Log.With("channel", w.k.Name, "host", r.Host, "break_glass", r.ID)
	n := &Notice{What: u.what, Time: now, Request: r, By: u.By, End: u.End, Command: "sallyport breakglass review " + r.ID}
	if u.what == GlassOpened {
		n.Command = "sallyport breakglass ls"
	}
	n.ID = idOf(n.What.String(), r.Host, r.ID, w.k.Name, 0)
	var err error
	if n.People, err = w.n.Settings.who(w.n.Settings.glass(r), now); err != nil {
		log.Error("who is on call is not known; others are told", "error", err)
	}
	if _, err := w.send(ctx, n); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return w.n.store.putOff(u, w.again(log, n.What, u.tries, err))
	}
	w.fails = 0
	w.urgent++
	if err := w.record(n); err != nil {
		return err
	}
	log.Info("a channel was told", "what", n.What.String(), "people", names(n.People))
	if w.n.Hooks.Told != nil {
		w.n.Hooks.Told(w.k.Name, n.What)
	}
	return w.n.store.settle(u, told)
}

// glass returns who is told of emergency access: whom break_glass names, or else all
// whom the routes for its resource and host name, whatever their rules; where there is
// none, every channel.
func (s *Settings) glass(r *Request) *Step {
	if s.BreakGlass != nil {
		return s.BreakGlass
	}
	all := &Step{}
	seen := map[string]bool{}
	for i := range s.Routes {
		k := &s.Routes[i]
		if !fits(k.Resources, r.Resource) || !fits(k.Hosts, r.Host) {
			continue
		}
		for n := range k.Steps {
			p := &k.Steps[n]
			for _, name := range p.Tell {
				if !seen[name] {
					seen[name] = true
					all.Tell = append(all.Tell, name)
				}
			}
			all.People, all.OnCall = append(all.People, p.People...), append(all.OnCall, p.OnCall...)
		}
	}
	for i := 0; i < len(s.Channels) && len(seen) == 0; i++ {
		all.Tell = append(all.Tell, s.Channels[i].Name)
	}
	return all
}
