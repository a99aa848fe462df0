package main

import (
	"fmt"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// Policy and catalog drift apart where what a rule names is not there any more, or not
// by that name. What it protected stays so as far as that is known; somebody has to
// have them agree again.

// seen looks for drift in a scope that is new here.
func (e *analyzer) seen(sc *policy.Scope) {
	if sc.ID == "" || !sc.Protects() && len(sc.Named) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.scopes[sc.ID] != nil {
		return
	}
	if len(e.scopes) >= maxScopes {
		clear(e.scopes) // those in use come again
	}
	e.scopes[sc.ID] = sc
	for key, d := range e.driftIn(sc) {
		e.tell(key, d)
	}
}

// recheck looks for drift in all scopes when the catalog has changed.
func (e *analyzer) recheck() {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.Analyzer.Version()
	if v == e.version {
		return
	}
	e.version = v
	there := map[string]bool{}
	for _, sc := range e.scopes {
		for key, d := range e.driftIn(sc) {
			there[key] = true
			e.tell(key, d)
		}
	}
	e.drifted = there // what was put right may drift again
}

// driftIn returns what is to be told of a scope, by what tells it apart.
func (e *analyzer) driftIn(sc *policy.Scope) map[string]*events.Event {
	out := map[string]*events.Event{}
	add := func(key, what string, objects []string, fields []events.Field, rules []string) {
		out[key] = &events.Event{
			Kind: events.Drift, Time: time.Now(), Objects: objects, Masked: fields, Rules: rules,
			Message: "resource " + e.key.resource + ": " + what,
		}
	}
	for _, f := range e.Unbound(sc) {
		add("field "+f.String(), strings.Join([]string{
			"policy masks", f.String() + ", which the relation does not have:",
			"statements on it are refused until policy and catalog agree",
		}, " "), []string{f.Schema + "." + f.Relation}, []events.Field{f}, nil)
	}
	for _, l := range e.Lost(sc) {
		rules := []string{l.Rule}
		if l.Now == (policy.Relation{}) {
			add(fmt.Sprintf("none %q %q", l.Rule, l.As), fmt.Sprintf("rule %q is about %s, and database %q has no relation of that name: it protects nothing there", l.Rule, l.As, e.key.database),
				[]string{l.As}, nil, rules)
			continue
		}
		was, now := l.Was.Schema+"."+l.Was.Name, l.Now.Schema+"."+l.Now.Name
		add(fmt.Sprintf("name %q %q %q", l.Rule, was, now), fmt.Sprintf("rule %q is about %s, which was renamed to %s in database %q: it is still held against it, until the rule or the relation has the other's name",
			l.Rule, was, now, e.key.database), []string{was, now}, nil, rules)
	}
	return out
}

// tell records it, once.
func (e *analyzer) tell(key string, d *events.Event) {
	if !e.drifted[key] {
		e.drifted[key] = true
		e.all.drift(d)
	}
}

// another records that a database has been replaced: what was kept of it is of no use.
func (e *analyzer) another() {
	e.all.drift(&events.Event{
		Kind: events.Drift, Time: time.Now(),
		Message: fmt.Sprintf("resource %s: database %q is another one than the one of which names were kept: a relation that was renamed in between is known by its name alone", e.key.resource, e.key.database),
	})
}
