package postgres

import (
	"fmt"

	"sallyport.dev/sallyport/policy"
)

// Between its analysis and its approval a statement may have come to mean something
// else. Where the catalog has changed it is analysed again: what somebody defines that
// has nothing to do with it does not stop it.

// still reports that the statement is what it was when it was analysed.
func (w *wording) still() error {
	c := w.c
	if w.waited {
		if err := c.base.Refresh(c.ctx); err != nil {
			return fmt.Errorf("the catalog can't be read: %w", err)
		}
	}
	if c.base.Version() == w.version {
		return nil
	}
	// What its names stand for in the session was analysed earlier, and is not looked at.
	if w.scope == nil || w.st.an.Local || w.sent == "" && !w.simple {
		return policy.ErrElse
	}
	sent := w.sent
	if w.simple {
		sent = string(w.st.appendSQL(nil, w.text, c.lits))
	}
	st, now, err := c.again(w)
	switch {
	case err != nil:
		return fmt.Errorf("it can't be analysed again: %w", err)
	case now != sent, !st.an.Same(w.st.an):
		return policy.ErrElse
	}
	w.version = c.analysed(st)
	if w.version != c.base.Version() {
		return policy.ErrElse
	}
	return nil
}

// again analyses the text that waits, and returns what the server would be sent by now.
// The session's notes of the first analysis stay as they are.
func (c *conn) again(w *wording) (*statement, string, error) {
	key, lits, digests, msg, named, fetched := c.key, c.lits, c.digests, c.msg, c.named, c.fetched
	c.key, c.lits, c.digests, c.msg, c.named, c.fetched = nil, nil, nil, nil, nil, nil
	defer func() {
		c.key, c.lits, c.digests, c.msg, c.named, c.fetched = key, lits, digests, msg, named, fetched
	}()
	st, err := c.analyze(w.text, w.scope, w.simple, w.types)
	if err != nil {
		return nil, "", err
	}
	return st, string(st.appendSQL(nil, w.text, c.lits)), nil
}

// analysed is the version of the base's catalog that a statement was analysed by.
func (c *conn) analysed(st *statement) uint64 {
	switch {
	case c.analyzer == c.base:
		return st.an.Version
	case st.an.Version != c.analyzer.Version():
		return 0
	case c.ddl.seen != 0:
		return c.ddl.seen
	}
	return c.apart
}
