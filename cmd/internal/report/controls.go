package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Control is a requirement, and what of the bundle answers it.
type Control struct {
	Citation string `json:"citation"`
	Title    string `json:"title"`
	Shows    string `json:"shows"`
	Where    string `json:"where"` // of report.json
}

// controls maps the report to 45 CFR 164 and NIST SP 800-53 revision 5. It tells
// what the evidence shows; whether that is enough is the auditor's to say.
func controls(r *Report) []Control {
	writes, masked, revealed, noOutcome := 0, 0, 0, 0
	for i := range r.Accesses {
		a := &r.Accesses[i]
		if a.Writes {
			writes++
		}
		if len(a.Masked) > 0 {
			masked++
		}
		if len(a.Revealed) > 0 {
			revealed++
		}
		if a.Outcome == "" || a.Outcome == "interrupted" {
			noOutcome++
		}
	}
	records := uint64(0)
	for i := range r.Chains {
		records += r.Chains[i].Records
	}
	sound := "every record of the store is there, unchanged and in its place"
	if !r.Sound {
		sound = fmt.Sprintf("NOT SOUND: %d faults", len(r.Faults))
	}
	n := func(format string, a ...any) string { return fmt.Sprintf(format, a...) }
	return []Control{
		{"45 CFR 164.312(a)(1)", "Access control", n("%d statements ran under rules that allowed them, %d of them with fields masked, %d with fields shown in clear by a rule and a justification; %d were refused; %d of %d logins were refused", len(r.Accesses), masked, revealed, len(r.Refused), r.LoginsRefused, r.Logins), "accesses, refused, policies"},
		{"45 CFR 164.312(b)", "Audit controls", n("%d records of %d chains were examined; %d accesses have no complete outcome on the record", records, len(r.Chains), noOutcome), "chains, accesses"},
		{"45 CFR 164.312(c)(1)", "Integrity", n("%d statements could change data, and each is named; of the evidence itself: %s", writes, sound), "accesses (writes), faults, chain/"},
		{"45 CFR 164.312(d)", "Person or entity authentication", n("how the identities of sessions were proved: %s", counts(r.Proofs)), "proofs, accesses (proof)"},
		{"45 CFR 164.312(e)(1)", "Transmission security", n("how the doors of sessions were secured: %s", counts(r.Transport)), "transport"},
		{"45 CFR 164.308(a)(1)(ii)(D)", "Information system activity review", n("this report; the evidence was read %d times before it in this time", len(r.Reads)), "identities, principals, reads"},
		{"45 CFR 164.528", "Accounting of disclosures", disclosures(r), "accesses"},
		{"NIST SP 800-53 AU-2, AU-12", "Event logging, audit record generation", "every statement, refusal, login, session and administrative act at the passage; none ran without a record", "accesses, refused, hosts"},
		{"NIST SP 800-53 AU-3", "Content of audit records", "what, when, where, source, outcome and identity stand in each access", "accesses"},
		{"NIST SP 800-53 AU-4", "Audit log storage capacity", "room for the outcome of each statement is kept before it runs; without room for its record no statement runs, and alarms of that stand with the hosts", "hosts"},
		{"NIST SP 800-53 AU-5", "Response to audit logging process failures", n("%d alarms of the recorder, and those of hosts; statements are refused while they cannot be recorded", len(r.Alarms)), "alarms, hosts"},
		{"NIST SP 800-53 AU-6, AU-7", "Review, analysis, reduction, report generation", "sums by identity and principal, and a form for machines", "identities, principals"},
		{"NIST SP 800-53 AU-8", "Time stamps", "UTC with nanoseconds, by the host's clock", "accesses (time)"},
		{"NIST SP 800-53 AU-9", "Protection of audit information", sound, "faults, chain/"},
		{"NIST SP 800-53 AU-10", "Non-repudiation", signed(r), "chain/, log"},
		{"NIST SP 800-53 AU-11", "Audit record retention", n("records that are missing from a chain would be named; chains: %d", len(r.Chains)), "chains"},
		{"NIST SP 800-53 AU-14", "Session audit", n("%d sessions were opened; what each was sent and shown is in the transcripts of the store, not here (sallyport sessions replay)", total(r.Proofs)), "proofs"},
	}
}

// disclosures says of whom the accesses are.
func disclosures(r *Report) string {
	const what = "date, who, on whose behalf, which relations, how many rows, and the justification that was given"
	if len(r.Filter.Subjects) == 0 {
		return what + ". For one individual: sallyport report --patient"
	}
	shown := 0
	for i := range r.Accesses {
		if r.Accesses[i].Subject == "shown" {
			shown++
		}
	}
	return fmt.Sprintf("%s: %d accesses were shown rows of the individual, and %d more could not tell whose rows they were shown; what ran while policy named no subjects is not in it", what, shown, len(r.Accesses)-shown)
}

// signed says what ties the records to others than the store.
func signed(r *Report) string {
	s := "records are tied to each other by hash, and to the host's key by signed checkpoints"
	if r.Log != nil {
		s += fmt.Sprintf("; each is proved to be in the transparency log %s of %d entries", r.Log.Origin, r.Log.Size)
	}
	return s
}

func total(of map[string]int) (n int) {
	for _, x := range of {
		n += x
	}
	return n
}

// counts says how many there are of each, the most first.
func counts(of map[string]int) string {
	if len(of) == 0 {
		return "none"
	}
	names := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(of[b]-of[a], cmp.Compare(a, b)) })
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %d", n, of[n])
	}
	return strings.Join(names, ", ")
}
