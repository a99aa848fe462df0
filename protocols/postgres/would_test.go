package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/protocols/protocoltest"
)

const observePolicy = `
rules:
  - name: staff
    effect: allow
    identity: "*"
    resource: "*"
    commands: %s
    relations: "*"
  - name: no deletes
    observe: true
    effect: block
    commands: [delete, truncate]
    relations: clinic.*
  - name: four eyes
    observe: true
    effect: approve
    identity: "*"
    resource: "*"
    commands: update
    relations: clinic.*
    approve: {by: {issuer: "https://id.example", subjects: dr-b}}
  - name: numbers
    observe: true
    effect: mask
    identity: "*"
    resource: "*"
    fields: {clinic.patients.ssn: redact}
  - name: own
    observe: true
    effect: filter
    identity: "*"
    resource: "*"
    relations: clinic.visits
    where: id = 1
`

// What a rule that only observes would do is on the record, and not done: all is
// answered as without the rule, whether something else is enforced or nothing.
func TestObserveRules(t *testing.T) {
	const names = `
  - {name: names, effect: mask, identity: "*", resource: "*", fields: {clinic.patients.name: redact}}
`
	const opaque = "a DO that is not understood"
	for _, pol := range []struct {
		name, text string
		enforced   bool // something is
	}{
		{"nothing is enforced", fmt.Sprintf(observePolicy, `"*"`), false},
		{"a mask is enforced", fmt.Sprintf(observePolicy, "[read, write, session]") + names, true},
	} {
		without := strings.Split(pol.text, "  - name: no deletes")[0]
		if pol.enforced {
			without += names
		}
		for _, form := range []string{"simple", "extended"} {
			t.Run(pol.name+"/"+form, func(t *testing.T) {
				p, plain := open(t, pol.text, protocoltest.Options{}), open(t, without, protocoltest.Options{})
				r, direct := p.raw(), plain.raw()
				for _, c := range []struct{ sql, want string }{
					{"SELECT ssn FROM clinic.patients WHERE id = 1", "would-mask by numbers: clinic.patients.ssn"},
					{"SELECT right(ssn, 4), name FROM clinic.patients WHERE ssn LIKE '9%'", "would-mask by numbers: clinic.patients.ssn"},
					{"SELECT city FROM clinic.patients", ""},
					{"SELECT count(*) FROM clinic.visits", "would-filter by own: clinic.visits"},
					{"DELETE FROM clinic.patients WHERE false", `would-block by no deletes: rule "no deletes" blocks delete on clinic.patients`},
					{"UPDATE clinic.patients SET city = city WHERE false", "would-hold by four eyes: "},
					{"BEGIN", ""},
					{"DECLARE c CURSOR FOR SELECT ssn FROM clinic.patients", "would-mask by numbers: clinic.patients.ssn"},
					{"FETCH 1 FROM c", "would-mask by numbers: clinic.patients.ssn"},
					{"COMMIT", ""},
					{"PREPARE observed AS SELECT ssn FROM clinic.patients", "would-mask by numbers: clinic.patients.ssn"},
					{"EXECUTE observed", "would-mask by numbers: clinic.patients.ssn"},
					{"DO 'BEGIN END'", opaque},
					{"SELECT 1/0 FROM clinic.patients", ""},
				} {
					say := []message{q(c.sql)}
					if form == "extended" {
						say = extended(c.sql)
					}
					before := len(p.Journal.Events(events.Statement))
					got, want := r.ask(1, say...), direct.ask(1, say...)
					if got != want {
						t.Errorf("%s: %q, without the rules %q", c.sql, got, want)
					}
					if c.want == opaque && pol.enforced {
						continue // it is refused
					}
					all := p.Journal.Events(events.Statement)
					if len(all) == before {
						t.Errorf("%s: refused", c.sql)
						continue
					}
					e := all[len(all)-1]
					is := ""
					if e.Would != 0 {
						what := append([]string{}, e.WouldFiltered...)
						for _, f := range e.WouldMasked {
							what = append(what, f.String())
						}
						if e.WouldReason != "" {
							what = append(what, e.WouldReason)
						}
						is = fmt.Sprintf("%s by %s: %s", e.Would, strings.Join(e.WouldRules, ", "), strings.Join(what, ", "))
					}
					if c.want == opaque {
						if !strings.HasPrefix(is, "would-block by opaque: the statement is not understood") || e.Verdict != events.Allow {
							t.Errorf("%s: %s, %s", c.sql, e.Verdict, is)
						}
					} else if is != c.want || !e.Verdict.Runs() || strings.Contains(strings.Join(e.Rules, ""), "numbers") {
						t.Errorf("%s: %s by %v, %q, want %q", c.sql, e.Verdict, e.Rules, is, c.want)
					}
				}
			})
		}
	}
}
