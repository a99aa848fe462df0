package rules_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy/rules"
)

// ok is a rule without a fault, of four lines.
const ok = `
  - name: ok
    effect: allow
    identity: "*"
    resource: clinic-db
    commands: read
    relations: clinic.*`

// keeps is the beginning of a rule that filters, of four lines.
const keeps = `
  - name: x
    effect: filter
    identity: "*"
    resource: clinic-db
`

// asks is the beginning of a rule that asks for an approval, of six lines.
const asks = `
  - name: x
    effect: approve
    identity: "*"
    resource: clinic-db
    commands: delete
    relations: clinic.*
`

// Each fault is told at its line, with what to do.
func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "1: no rules: an empty policy would refuse everything"},
		{"a comment", "# rules\n", "1: no rules"},
		{"no list", "rules:\n", "1: rules: write a list of rules"},
		{"an empty list", "rules: []\n", "1: rules: write a list of rules"},
		{"another key", "rule: []\n", `1: a policy: unknown field "rule": remove or correct it; there are rules`},
		{"a list", "- name: x\n", "1: a policy: write a mapping of rules"},
		{"no YAML", "rules:\n  - name: x\n    effect: [\n", "3: this is not YAML: "},
		{"a tab", "rules:\n\t- name: x\n", "2: this is not YAML: "},
		{"a star", "rules:\n  - name: x\n    commands: *\n", `: put a * in quotes, like "*"`},
		{"two documents", "rules:" + ok + "\n---\nrules:" + ok + "\n", "8: a second document"},
		{"an anchor", "rules:\n  - name: &x x\n", "2: anchors and aliases are not taken"},
		{"an alias", "rules:\n  - name: &x x\n    effect: *x\n", "3: anchors and aliases are not taken"},
		{"a tag", "rules:\n  - name: !!binary eA==\n", "2: the tag !!binary is not taken"},
		{"bytes", "rules:\n  - name: \xff\n", "this is not YAML"},
		{"a rule of text", "rules:\n  - x\n", "2: a rule: write a mapping of name, effect, identity"},
		{"an unknown field", "rules:" + ok + "\n    identitiy: \"*\"\n", `8: a rule: unknown field "identitiy": remove or correct it`},
		{"a field twice", "rules:" + ok + "\n    commands: write\n", "8: a rule: commands is there twice, first on line 6"},
		{"no name", "rules:\n  - effect: block\n", `2: rule "" has no name`},
		{"no effect", "rules:\n  - name: x\n", `2: rule "x" has no effect`},
		{"a name taken", "rules:" + ok + ok + "\n", `8: rule "ok": the name is taken by the rule at p.yaml:2`},
		{"a name of numbers", "rules:\n  - name: 7\n    effect: block\n", "2: name: write text; a number, a date, true or null needs quotes"},
		{"a strange name", "rules:\n  - name: \"a\\nb\"\n    effect: block\n", "2: name \"a\\nb\": use at most 100 letters"},
		{"a reserved name", "rules:\n  - name: default\n    effect: block\n", "2: name \"default\": this is how decisions of the language itself are called"},
		{"an unknown effect", "rules:\n  - name: x\n    effect: permit\n", `3: effect "permit": use allow, mask, reveal, filter, approve or block`},

		{"approve", "rules:\n  - name: x\n    effect: approve\n", `2: rule "x" has no approve: say who may approve`},
		{"approve by nobody", "rules:" + asks + "    approve: {count: 2}\n", "8: approve: it has no by: say who may approve"},
		{"approve by anybody", "rules:" + asks + "    approve:\n      by: {issuer: a}\n", "9: by: whoever logs in there could approve: name subjects or claims"},
		{"approve by no issuer", "rules:" + asks + "    approve:\n      by: {claims: {groups: a}}\n", "9: by: it has no issuer"},
		{"approve by two kinds", "rules:" + asks + "    approve:\n      by: {issuer: a, saml: b, claims: {groups: a}}\n", "9: by: it has both issuer and saml"},
		{"approve by all of SAML", "rules:" + asks + "    approve:\n      by: {saml: a}\n", "9: by: whoever logs in there could approve"},
		{"approve by an empty list", "rules:" + asks + "    approve:\n      by: {issuer: a, subjects: []}\n", "9: subjects: an empty list matches nothing"},
		{"approve by none", "rules:" + asks + "    approve:\n      by: {issuer: a, subjects: b}\n      count: 0\n", "10: count: from 1 to 10"},
		{"approve for ever", "rules:" + asks + "    approve:\n      by: {issuer: a, subjects: b}\n      grant: 1000h\n", "10: grant: write a time like 90s or 15m, from 1s to 24h"},
		{"approve a shape of nothing", "rules:" + asks + "    approve: {by: {issuer: a, subjects: b}, scope: shape}\n", "8: approve: scope: shape has free parameters"},
		{"approve a parameter 0", "rules:" + asks + "    approve: {by: {issuer: a, subjects: b}, scope: shape, free: {0: [x]}}\n", `8: free: "0" is no parameter`},
		{"approve a statement with free ones", "rules:" + asks + "    approve: {by: {issuer: a, subjects: b}, free: {1: [x]}}\n", "8: free: only scope: shape has free parameters"},
		{"approve the world", "rules:" + asks + "    approve: {by: {issuer: a, subjects: b}, scope: session}\n", `8: scope "session": use statement, shape or rule`},
		{"approve some time", "rules:" + asks + "    approve: {by: {issuer: a, subjects: b}, wait: 1h}\n", `8: wait "1h": write retry, hold, or how long a client is held`},
		{"approve a login", "rules:\n  - {name: x, effect: approve, identity: \"*\", resource: a, commands: login, relations: \"*\", approve: {by: {issuer: a, subjects: b}}}\n", "2: commands: a login can't be approved"},
		{"approve anything", "rules:\n  - {name: x, effect: approve, identity: \"*\", resource: a, approve: {by: {issuer: a, subjects: b}}}\n", `2: rule "x" has no commands: what needs an approval must be said`},
		{"approve with a remedy", "rules:" + asks + "    approve: {by: {issuer: a, subjects: b}}\n    remedy: x\n", "9: remedy: who must ask is told how to wait"},
		{"reveal nothing", "rules:\n  - {name: x, effect: reveal, identity: \"*\", resource: a}\n", `2: rule "x" has no reveal: name the columns that are shown in clear`},
		{"reveal to nobody", "rules:\n  - {name: x, effect: reveal, resource: a, reveal: a.b.c}\n", `2: rule "x" has no identity: whom it reveals to must be said`},
		{"reveal by an approval of nobody", "rules:\n  - {name: x, effect: reveal, identity: \"*\", resource: a, reveal: a.b.c, approve: {wait: hold}}\n", "2: approve: it has no by"},
		{"reveal a pattern", "rules:\n  - {name: x, effect: reveal, identity: \"*\", resource: a, reveal: a.b.*}\n", "2: reveal: a.b.*: patterns are not taken here"},
		{"reveal for no words", "rules:\n  - {name: x, effect: reveal, identity: \"*\", resource: a, reveal: a.b.c, justification: 0}\n", "2: justification: how many characters it has at least: from 1 to 200"},
		{"reveal for a book", "rules:\n  - {name: x, effect: reveal, identity: \"*\", resource: a, reveal: a.b.c, justification: 201}\n", "2: justification: how many characters it has at least: from 1 to 200"},
		{"reveal by command", "rules:\n  - {name: x, effect: reveal, identity: \"*\", resource: a, reveal: a.b.c, commands: read}\n", "2: commands: what is revealed is so for every command"},
		{"reveal by statement", "rules:\n  - {name: x, effect: reveal, identity: \"*\", resource: a, reveal: a.b.c, condition: statement.writes}\n", "2: condition: what is masked or filtered is known before"},
		{"a mask called reveal", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, fields: {a.b.c: reveal}}\n", `2: mask "reveal" is not known`},
		{"a justification of a mask", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, fields: {a.b.c: redact}, justification: 12}\n", "2: justification: only a rule that reveals has it"},
		{"a filter", "rules:" + ok + "\n    filter:\n      clinic.patients: city = 'x'\n", `8: a rule: unknown field "filter"`},
		{"rows of a rule that allows", "rules:" + ok + "\n    where: a = 1\n", "8: where: only a rule that filters says which rows"},
		{"a filter without rows", "rules:" + keeps + "    relations: a.b\n", `2: rule "x" has no where: say which rows are there`},
		{"a filter of nothing", "rules:" + keeps + "    where: a = 1\n", `2: rule "x" has no relations: name them`},
		{"a filter of patterns", "rules:" + keeps + "    relations: a.*\n    where: a = 1\n", "6: relations: a filter is about columns: name each relation"},
		{"a filter of commands", "rules:" + keeps + "    relations: a.b\n    where: a = 1\n    commands: read\n", "8: commands: a filter holds for every command"},
		{"a filter on a statement", "rules:" + keeps + "    relations: a.b\n    where: a = 1\n    condition: statement.writes\n", "8: condition: what is masked or filtered is known before"},
		{"limits", "rules:" + ok + "\n    limits: {rows: 10}\n", `8: limits: unknown field "rows": remove or correct it; there are statement, session, minute, hour`},
		{"a limit of nothing", "rules:" + ok + "\n    limits: {hour: {rows: 0}}\n", "8: rows: from 1"},
		{"a limit of no words", "rules:" + ok + "\n    limits: {hour: {}}\n", "8: hour: it is empty"},
		{"a limit of time", "rules:" + ok + "\n    limits: {session: {length: 8}}\n", "8: length: write a time like 30m or 8h"},
		{"a limit of statements of one", "rules:" + ok + "\n    limits: {statement: {statements: 1}}\n", `8: statement: unknown field "statements"`},
		{"a limit of a block", "rules:\n  - name: x\n    effect: block\n    limits: {hour: {rows: 1}}\n", "4: limits: only a rule that allows has limits"},
		{"approvers", "rules:" + ok + "\n    approve: {by: {issuer: a, subjects: b}}\n", "8: approve: only a rule that asks for an approval, or reveals with one, has it"},
		{"observe and allow", "rules:" + ok + "\n    observe: true\n", "8: observe: only what takes something away can be watched"},
		{"observe and reveal", "rules:\n  - {name: x, effect: reveal, identity: \"*\", resource: a, reveal: a.b.c, observe: true}\n", "2: observe: only what takes"},
		{"observe detectors", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, detect: ssn, on: \"*\", observe: true}\n", "2: observe: what detectors would find"},
		{"observe nothing", "rules:\n  - {name: x, effect: block, observe: false}\n", "2: observe: write true, or leave it out"},
		{"no subjects", "rules:" + ok + "\nsubjects: []\n", "8: subjects: write a list of relations"},
		{"subjects of nothing", "rules:" + ok + "\nsubjects:\n  - {relation: a.b, name: patient}\n", "9: subjects: an entry has no key"},
		{"subjects by a pattern", "rules:" + ok + "\nsubjects:\n  - {relation: a.*, key: id, name: patient}\n", "9: relation: a.*: "},
		{"subjects by a column of something", "rules:" + ok + "\nsubjects:\n  - {relation: a.b, key: b.id, name: patient}\n", "9: key: b.id: "},
		{"a strange subject", "rules:" + ok + "\nsubjects:\n  - {relation: a.b, key: id, name: Patient}\n", `9: name "Patient": use at most 32 small letters`},
		{"another field of subjects", "rules:" + ok + "\nsubjects:\n  - {relation: a.b, key: id, name: patient, mask: redact}\n", `9: an entry of subjects: unknown field "mask"`},
		{"subjects twice", "rules:" + ok + "\nsubjects:\n  - {relation: a.b, key: id, name: patient}\n  - {relation: a.b, key: no, name: patient}\n", "10: subjects: the patient of a.b has a key at p.yaml:9 already"},
		{"subjects alone", "subjects:\n  - {relation: a.b, key: id, name: patient}\n", "1: no rules: an empty policy would refuse everything"},
		{"subjects that are wanted", "rules:" + ok + "\n    subjects: wanted\n", `8: subjects "wanted": write required, or leave it out`},
		{"subjects of a mask", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, fields: {a.b.c: redact}, subjects: required}\n", "2: subjects: only a rule that allows or reveals asks whose rows go out"},
		{"revealed", "rules:" + ok + "\n    reveal: [a.b.c]\n", "8: reveal: only a rule that reveals has it"},

		{"allow nobody", "rules:\n  - name: x\n    effect: allow\n    resource: a\n    commands: read\n    relations: \"*\"\n", `2: rule "x" has no identity: what it allows must be said; "*" is all`},
		{"allow nowhere", "rules:\n  - name: x\n    effect: allow\n    identity: \"*\"\n    commands: read\n    relations: \"*\"\n", `2: rule "x" has no resource`},
		{"allow to do nothing", "rules:\n  - name: x\n    effect: allow\n    identity: \"*\"\n    resource: a\n    relations: \"*\"\n", `2: rule "x" has no commands`},
		{"allow on nothing", "rules:\n  - name: x\n    effect: allow\n    identity: \"*\"\n    resource: a\n    commands: read\n", `2: rule "x" has no relations`},
		{"allow fields", "rules:" + ok + "\n    fields: {a.b.c: redact}\n", "8: fields: only a rule that masks names fields"},
		{"allow with a reason", "rules:" + ok + "\n    reason: x\n", "8: reason: only a rule that blocks has one"},
		{"mask nothing", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n", `2: rule "x" has no fields: name them with their masks`},
		{"detect nowhere", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, detect: ssn}\n", `2: rule "x" has no on: say where detectors look; "*" is in all text`},
		{"detect nothing", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, fields: {a.b.c: redact}, on: \"*\"}\n", "2: on: it says where detectors look: say which"},
		{"detect an unknown kind", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, detect: [ssn, pan], on: \"*\"}\n", `2: detect: "pan" is no kind: use ssn, card, npi`},
		{"detect what has no form", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, detect: name, on: \"*\"}\n", "2: detect: nothing has the form of a name: name its columns in fields"},
		{"detect on a pattern", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, detect: ssn, on: a.b*}\n", "2: on: a.b*: write schema.relation.column"},
		{"detect and allow", "rules:" + ok + "\n    detect: ssn\n    on: \"*\"\n", "8: detect: only a rule that masks has detectors"},
		{"detect and block", "rules:\n  - name: x\n    effect: block\n    detect: ssn\n", "4: detect: only a rule that masks has detectors"},
		{"mask nobody", "rules:\n  - {name: x, effect: mask, resource: a, fields: {a.b.c: redact}}\n", `2: rule "x" has no identity: what it masks must be said; "*" is everybody, or everywhere`},
		{"mask commands", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields: {a.b.c: redact}\n    commands: read\n", "7: commands: a mask holds for every command"},
		{"mask relations", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields: {a.b.c: redact}\n    relations: a.b\n", "7: relations: a mask holds for every command"},
		{"block fields", "rules:\n  - name: x\n    effect: block\n    fields: {a.b.c: redact}\n", "4: fields: only a rule that masks names fields"},
		{"block and record", "rules:\n  - name: x\n    effect: block\n    record: full\n", "4: record: only a rule that allows says how much is recorded"},

		{"nobody", "rules:\n  - name: x\n    effect: block\n    identity: {}\n", `4: identity: it is empty: say who, or "*" for everybody`},
		{"a name for an identity", "rules:\n  - name: x\n    effect: block\n    identity: billing\n", `4: identity ("*" is everybody): write a mapping of workload, issuer, subject, actor, principal, spiffe, principal_issuer, proof, claims`},
		{"an unknown part", "rules:\n  - name: x\n    effect: block\n    identity:\n      workload: a\n      user: b\n", `6: identity ("*" is everybody): unknown field "user"`},
		{"a proof that nobody has", "rules:\n  - name: x\n    effect: block\n    identity: {proof: [spiffe, oicd]}\n", `4: proof "oicd": matches none of token-bearer, oidc`},
		{"a misspelt proof", "rules:\n  - name: x\n    effect: block\n    condition: identity.proof in ['spiffe', 'odic+pidfd']\n", `4: condition: identity.proof is never "odic+pidfd": use one of`},
		{"a misspelt proof, denied", "rules:\n  - name: x\n    effect: block\n    condition: identity.workload_proof != 'bearer'\n", `4: condition: identity.workload_proof is never "bearer"`},
		{"a misspelt binding", "rules:\n  - name: x\n    effect: block\n    condition: \"'cfn' in identity.bindings\"\n", `4: condition: identity.bindings is never "cfn"`},
		{"a proof of another type", "rules:\n  - name: x\n    effect: block\n    condition: identity.proof > 3\n", "4: condition: found no matching overload"},
		{"a strength of another type", "rules:\n  - name: x\n    effect: block\n    condition: identity.strength == 'spiffe'\n", "4: condition: found no matching overload"},
		{"an empty list of workloads", "rules:\n  - name: x\n    effect: block\n    identity: {workload: []}\n", "4: workload: an empty list matches nothing"},
		{"an empty pattern", "rules:\n  - name: x\n    effect: block\n    identity: {workload: \"\"}\n", "4: workload: it is empty"},
		{"a claim of lists", "rules:\n  - name: x\n    effect: block\n    identity: {claims: {a: [[b]]}}\n", "4: claim a: write text"},
		{"no claims", "rules:\n  - name: x\n    effect: block\n    identity: {claims: {}}\n", "4: claims: write a mapping that is not empty"},
		{"a backslash at the end", "rules:\n  - name: x\n    effect: block\n    identity: {workload: 'a\\'}\n", "4: workload: a pattern may not end in a backslash"},
		{"no resource", "rules:\n  - name: x\n    effect: block\n    resource: {}\n", `4: resource: it is empty: say which, or "*" for all`},
		{"an unknown resource part", "rules:\n  - name: x\n    effect: block\n    resource: {host: a}\n", `4: resource: unknown field "host"`},

		{"an unknown command", "rules:\n  - name: x\n    effect: block\n    commands:\n      - select\n      - slect\n", `6: commands: command "slect" is not known: use *, read, write, ddl, session, or a command's name in lower case`},
		{"a command in capitals", "rules:\n  - name: x\n    effect: block\n    commands: SELECT\n", `4: commands: command "SELECT" is not known`},
		{"a pattern for no command", "rules:\n  - name: x\n    effect: block\n    commands: dorp_*\n", `4: commands: command "dorp_*" is not known`},
		{"a bare relation", "rules:\n  - name: x\n    effect: block\n    relations: patients\n", "4: relations: patients: write schema.relation: a name without its schema could mean any"},
		{"a long relation", "rules:\n  - name: x\n    effect: block\n    relations: db.clinic.patients\n", "4: relations: db.clinic.patients: write schema.relation"},
		{"a relation in capitals", "rules:\n  - name: x\n    effect: block\n    relations: clinic.Patients\n", `4: relations: clinic.Patients: "Patients" has capital letters: write it in lower case, or in double quotes`},
		{"a space", "rules:\n  - name: x\n    effect: block\n    relations: clinic.my patients\n", "4: relations: clinic.my patients: put a name that is no plain word in double quotes"},
		{"an open quote", "rules:\n  - name: x\n    effect: block\n    relations: 'clinic.\"patients'\n", "a quoted name has no end"},
		{"a field of two parts", "rules:\n  - {name: x, effect: mask, identity: \"*\", resource: a, fields: {patients.ssn: redact}}\n", "2: fields: patients.ssn: write schema.relation.column"},
		{"a field pattern", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      clinic.patients.*: redact\n", "7: fields: clinic.patients.*: patterns are not taken here; name each one as schema.relation.column"},
		{"a field twice", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      a.b.c: redact\n      a.b.c: year\n", "8: fields: a.b.c is there twice"},
		{"a field twice in quotes", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      a.b.c: redact\n      'a.b.\"c\"': year\n", "8: fields: a.b.c is there twice"},
		{"an unknown mask", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      a.b.c: rot13\n", `7: mask "rot13" is not known: use one of redact, null, partial, year, bucket, zip3, email, phone, ssn, pan, json, hash, token, format, fake`},
		{"a mask without a name", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      a.b.c: {last: 4}\n", "7: mask: it has no name"},
		{"no mask", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      a.b.c:\n", "7: mask: write text"},
		{"a mask's parameter", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      a.b.c: {mask: year, last: 4}\n", "7: mask year takes no first or last"},
		{"a mask of half a character", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      a.b.c: {mask: partial, last: 1.5}\n", "7: last: write a whole number from 0"},
		{"a negative mask", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields:\n      a.b.c: {mask: partial, last: -1}\n", "7: last: write a whole number from 0"},
		{"a function pattern", "rules:" + ok + "\n    functions: public.*\n", "8: functions: public.*: patterns are not taken here"},
		{"a bare function", "rules:" + ok + "\n    functions: double\n", "8: functions: double: write schema.function"},
		{"functions by statement", "rules:" + ok + "\n    functions: public.double\n    condition: statement.writes\n", "8: functions: they are declared before a statement is understood"},
		{"a level", "rules:" + ok + "\n    record: all\n", `8: record "all": use full, statement or events`},
		{"a limit", "rules:" + ok + "\n    record_limit: 1MB\n", "8: record_limit: write a size like 64KiB or 2MiB"},
		{"no limit", "rules:" + ok + "\n    record_limit: 0\n", "8: record_limit: write a size"},
		{"a large limit", "rules:" + ok + "\n    record_limit: 2000GiB\n", "8: record_limit: write a size"},
		{"a limit without a result", "rules:" + ok + "\n    record: events\n    record_limit: 1MiB\n", "9: record_limit: only record: full keeps anything of a result"},
		{"a long reason", "rules:\n  - name: x\n    effect: block\n    reason: " + strings.Repeat("x", 501) + "\n", "4: reason: at most 500 bytes"},
		{"an escape", "rules:\n  - name: x\n    effect: block\n    remedy: \"a\\x1b[2Jb\"\n", "4: remedy: at most 500 bytes without control characters"},
		{"no exception", "rules:\n  - name: x\n    effect: block\n    except: {}\n", "4: except: it is empty: say who or when"},
		{"everybody excepted", "rules:\n  - name: x\n    effect: block\n    except: {identity: \"*\"}\n", "4: except: everybody is no exception"},
		{"an exception's resource", "rules:\n  - name: x\n    effect: block\n    except:\n      - resource: a\n", `5: except: unknown field "resource"`},

		{"a condition of text", "rules:\n  - name: x\n    effect: block\n    condition: session.user\n", "4: condition: it gives a string: compare it with something"},
		{"an unknown variable", "rules:\n  - name: x\n    effect: block\n    condition: user == \"a\"\n", "4: condition: undeclared reference to 'user'"},
		{"an unknown field of a variable", "rules:\n  - name: x\n    effect: block\n    condition: identity.user == \"a\"\n", "4: condition: undefined field 'user'"},
		{"an unknown function", "rules:\n  - name: x\n    effect: block\n    condition: exec(\"a\")\n", "4: condition: undeclared reference to 'exec'"},
		{"types", "rules:\n  - name: x\n    effect: block\n    condition: session.user == 3\n", "4: condition: found no matching overload for '_==_'"},
		{"no expression", "rules:\n  - name: x\n    effect: block\n    condition: a ==\n", "4: condition: Syntax error"},
		{"a condition that is true", "rules:\n  - name: x\n    effect: block\n    condition: true\n", "4: condition: write text; a number, a date, true or null needs quotes"},
		{"a second line", "rules:\n  - name: x\n    effect: block\n    condition: |\n      session.user == \"a\" &&\n      session.usr == \"b\"\n", "6: condition: undefined field 'usr'"},
		{"a long condition", "rules:\n  - name: x\n    effect: block\n    condition: '" + strings.Repeat("true || ", 1100) + "true'\n", "4: condition: "},
		{"a deep condition", "rules:\n  - name: x\n    effect: block\n    condition: '" + strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200) + "'\n", "4: condition: "},
		{"a time zone", "rules:\n  - name: x\n    effect: block\n    condition: now.getHours(\"Europe/Berlim\") > 3\n", `4: condition: time zone "Europe/Berlim" is not known`},
		{"the host's time zone", "rules:\n  - name: x\n    effect: block\n    condition: now.getHours(\"Local\") > 3\n", `4: condition: time zone "Local" is not known`},
		{"a time zone of the client's", "rules:\n  - name: x\n    effect: block\n    condition: now.getHours(session.user) > 3\n", "4: condition: the time zone of getHours must be written out"},
		{"a mask by statement", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields: {a.b.c: redact}\n    condition: statement.writes\n", "7: condition: what is masked or filtered is known before a statement is understood"},
		{"a mask by request", "rules:\n  - name: x\n    effect: mask\n    identity: \"*\"\n    resource: a\n    fields: {a.b.c: redact}\n    except:\n      condition: request.number > 3\n", "8: except: what is masked or filtered is known before a statement is understood"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(c.text)})
			if err == nil || p != nil {
				t.Fatalf("taken:\n%s", c.text)
			}
			if !strings.HasPrefix(c.want, ":") && c.want[0] >= '0' && c.want[0] <= '9' {
				c.want = "p.yaml:" + c.want
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			var e *rules.Error
			if !errors.As(err, &e) || e.File != "p.yaml" || e.Line < 1 || e.Line > strings.Count(c.text, "\n")+1 {
				t.Errorf("%+v", e)
			}
		})
	}
}

// All that is wrong is told at once, in the order of the files.
func TestAllErrors(t *testing.T) {
	_, err := rules.Parse(
		rules.File{Name: "b.yaml", Data: []byte("rules:\n  - name: x\n    effect: allow\n    commands: [slect, isnert]\n    condition: foo\n")},
		rules.File{Name: "a.yaml", Data: []byte("rules:\n  - name: x\n    effect: stop\n    who: me\n")},
	)
	var got []string
	for line := range strings.Lines(err.Error()) {
		where, _, _ := strings.Cut(line, ": ")
		got = append(got, where)
	}
	want := []string{"a.yaml:2", "a.yaml:3", "a.yaml:4", "b.yaml:2", "b.yaml:2", "b.yaml:2", "b.yaml:4", "b.yaml:4", "b.yaml:5"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v:\n%v", got, want, err)
	}
}

// Two masks on one field, for identities that surely meet.
func TestConflictsAtLoad(t *testing.T) {
	rule := func(name, more, field, mask string) string {
		return "  - name: " + name + "\n    effect: mask\n    " + more + "\n    fields:\n      " + field + ": " + mask + "\n"
	}
	for _, c := range []struct {
		a, b string // identity, resource and more of both
		want bool
	}{
		{"identity: \"*\"\n    resource: \"*\"", "identity: {workload: a}\n    resource: db", true},
		{"identity: {workload: a}\n    resource: db", "identity: {workload: a}\n    resource: db", true},
		{"identity: {workload: a}\n    resource: db", "identity: {workload: b}\n    resource: db", false},
		{"identity: {workload: a}\n    resource: db", "identity: {workload: a}\n    resource: other", false},
		{"identity: {workload: \"a-*\"}\n    resource: db", "identity: {workload: \"*-b\"}\n    resource: \"*\"", true},
		{"identity: {workload: \"a-*\"}\n    resource: db", "identity: {workload: \"b-*\"}\n    resource: \"*\"", false},
		{"identity: {workload: [x, \"a?c\"]}\n    resource: db", "identity: {workload: [y, \"?bc\"]}\n    resource: \"*\"", true},
		{"identity: {claims: {role: a}}\n    resource: db", "identity: {claims: {role: b}}\n    resource: db", false},
		{"identity: {claims: {role: a}}\n    resource: db", "identity: \"*\"\n    resource: db", true},
		{"identity: {claims: {role: a}}\n    resource: db", "identity: {subject: s}\n    resource: db", false}, // may never meet
		{"identity: \"*\"\n    resource: {name: db}", "identity: \"*\"\n    resource: {labels: {env: x}}", false},
		{"identity: \"*\"\n    resource: {database: a}", "identity: \"*\"\n    resource: {database: b}", false},
		{"identity: \"*\"\n    resource: {database: a}", "identity: \"*\"\n    resource: {database: \"*\"}", true},
		{"identity: \"*\"\n    resource: db\n    except: {identity: {workload: a}}", "identity: {workload: a}\n    resource: db", false},
		{"identity: \"*\"\n    resource: db\n    condition: session.user == \"a\"", "identity: \"*\"\n    resource: db", false},
	} {
		for _, same := range []bool{false, true} {
			second := "year"
			if same {
				second = "redact"
			}
			text := "rules:\n" + rule("one", c.a, "s.t.c", "redact") + rule("two", c.b, `'s."t".c'`, second)
			_, err := rules.Parse(rules.File{Name: "p.yaml", Data: []byte(text)})
			want := c.want && !same
			if (err != nil) != want {
				t.Errorf("%v for\n%s", err, text)
			}
			line := strings.Count(text, "\n")
			if want && err != nil && !strings.HasPrefix(err.Error(), "p.yaml:"+strconv.Itoa(line)+": s.t.c has another mask by rule \"one\" (p.yaml:7)") {
				t.Errorf("%v, want line %d", err, line)
			}
		}
	}
}

// A folder is one policy.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rules.Load(dir); err == nil || !strings.Contains(err.Error(), "no *.yaml files") {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := rules.Load(filepath.Join(dir, "absent.yaml")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "policy.example.yaml") {
		t.Errorf("no file: %v", err)
	}
	write("a.yaml", "rules:\n  - {name: a, effect: block}\n")
	write("b.yml", "rules:\n  - {name: b, effect: block}\n")
	write("README.md", "not a policy")
	write(".hidden.yaml", "not a policy")
	write("a.test.yaml", "not a policy")
	p, err := rules.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Rules(); len(r) != 2 || r[0] != (rules.Rule{Name: "a", Effect: "block", File: filepath.Join(dir, "a.yaml"), Line: 2}) || r[1].Name != "b" {
		t.Errorf("%+v", r)
	}
	if p, err := rules.Load(filepath.Join(dir, "b.yml")); err != nil || len(p.Rules()) != 1 {
		t.Errorf("a file: %v", err)
	}
	write("c.yaml", "rules:\n  - {name: a, effect: block}\n")
	if _, err := rules.Load(dir); err == nil || !strings.Contains(err.Error(), `rule "a": the name is taken by the rule at `+filepath.Join(dir, "a.yaml")+":2") {
		t.Errorf("a name in two files: %v", err)
	}
	if err := os.Rename(filepath.Join(dir, "c.yaml"), filepath.Join(dir, "c.bak")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "more"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := rules.Load(dir); err == nil || !strings.Contains(err.Error(), "a folder in a policy folder is not read") {
		t.Errorf("a folder in it: %v", err)
	}
}

func TestUnmatched(t *testing.T) {
	p := load(t, `
- {name: a, identity: {workload: [agent, agnet]}, resource: [clinic, clinci], commands: read, relations: "*", effect: allow}
- {name: b, identity: "*", resource: "c*", commands: read, relations: "*", effect: allow}
- {name: c, identity: {workload: "x-*"}, resource: {labels: {a: b}}, commands: read, relations: "*", effect: allow}
`)
	var got []string
	for _, e := range p.Unmatched([]string{"clinic"}, []string{"agent"}) {
		got = append(got, e.Error())
	}
	want := []string{`p.yaml:3: rule "a": no resource "clinci" here`, `p.yaml:3: rule "a": no workload "agnet" here`, `p.yaml:5: rule "c": no workload "x-*" here`}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
