package main

import (
	"errors"
	"strconv"
	"time"

	"sallyport.dev/sallyport/intercept/privsep"
)

// sayLogin has the daemon begin a login, at the provider that Text names, or
// end one, with the browser's answer in a memory file.
const sayLogin = "login"

// sayApprovals has the daemon answer a question about approvals.
const sayApprovals = doApprovals

const (
	maxAsking = 32                     // logins that wait for the daemon
	loginTime = bindTime + time.Second // that the daemon has
	maxTerms  = 16 << 10               // bytes of what it answers
)

// logins are those who wait for the daemon's answer. They belong to the
// loader's loop.
type logins struct {
	last    uint64
	waiting map[string]asking
}

type asking struct {
	*privsep.Talk

	until time.Time
}

// relayLogin passes on what is asked. What root's command brings is not looked
// at.
func (l *loader) relayLogin(t *privsep.Talk, m privsep.Message) error {
	w := &l.logins
	switch {
	case len(m.FDs) > 1 || len(m.Text) > 64:
		return errors.New("what is asked is not understood: the running sallyport is of another version")
	case len(w.waiting) >= maxAsking:
		return errors.New("too many logins are asked for at once: try again")
	}
	return l.relay(t, order{Do: doLogin, Text: m.Text}, m.FDs)
}

// relayApprovals passes a question about approvals on, which is in a descriptor, as
// its answer will be.
func (l *loader) relayApprovals(t *privsep.Talk, m privsep.Message) error {
	switch {
	case len(m.FDs) != 2:
		return errors.New("what is asked is not understood: the running sallyport is of another version")
	case len(l.logins.waiting) >= maxAsking:
		return errors.New("too much is asked at once: try again")
	}
	return l.relay(t, order{Do: doApprovals}, m.FDs)
}

// relay gives the daemon an order whose answer is for who asks.
func (l *loader) relay(t *privsep.Talk, o order, fds []int) error {
	w := &l.logins
	w.last++
	o.ID = strconv.FormatUint(w.last, 10)
	if err := l.line.write(o, fds); err != nil {
		return err
	}
	if w.waiting == nil {
		w.waiting = map[string]asking{}
	}
	w.waiting[o.ID] = asking{t, time.Now().Add(loginTime)}
	return nil
}

// loginAnswered passes the daemon's answer on.
func (l *loader) loginAnswered(v verdict) {
	t, ok := l.logins.waiting[v.ID]
	if !ok {
		return
	}
	delete(l.logins.waiting, v.ID)
	defer t.Close()
	size := 0
	for k, x := range v.Terms {
		size += len(k) + len(x)
	}
	say := privsep.Message{Do: v.To, Terms: v.Terms}
	switch {
	case v.Err != "":
		say = privsep.Message{Do: sayRefused, Text: v.Err}
	case size > maxTerms:
		say = privsep.Message{Do: sayRefused, Text: "what the provider's metadata leads to is too long"}
	}
	_ = t.Send(say) // whoever asked may have gone
}

// forget hangs up on those whom the daemon did not answer.
func (w *logins) forget() {
	for id, t := range w.waiting {
		if time.Now().After(t.until) {
			delete(w.waiting, id)
			t.Close()
		}
	}
}
