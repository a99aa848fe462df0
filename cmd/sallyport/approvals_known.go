package main

import (
	"fmt"
	"strings"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// showKnown has lines about a request besides what it is of: how its names were
// proved, what its requester says, how much it is about, and what came of requests
// like it.
func showKnown(line func(name, format string, args ...any), e *approval.Entry) {
	line("compares", "%s", strings.Join(e.What.Compared, ", "))
	line("leaves out", "%s", rowsOf(e.What.Filtered))
	for _, p := range e.Who.Proofs {
		bound := ""
		if len(p.Bound) > 0 {
			bound = ", bound to the connection by " + strings.Join(p.Bound, ", ")
		}
		line(p.Name, "proved by %s%s", p.By, bound)
	}
	line("rows", "%s", estimateText(e.Estimate))
	if h := e.History; h != nil {
		line("statement", "%s", "of this shape, by anybody: "+h.Statement.Text())
		line("workload", "%s", "of any shape, by this workload: "+h.Workload.Text())
		if !h.Forgotten.IsZero() {
			line("history", "what was last asked for before %s may be missing", h.Forgotten.Local().Format(time.RFC3339))
		}
	}
	says := func(what, text string) {
		if text != "" {
			line("it says", "%s: %s (its own words, not proved)", what, text)
		}
	}
	says("application_name", e.Says.Application)
	says("justification", e.Says.Justification)
	for _, c := range e.Says.Comments {
		says("comment", c)
	}
}

func rowsOf(relations []string) string {
	if len(relations) == 0 {
		return ""
	}
	return "rows of " + strings.Join(relations, ", ")
}

// estimateText says how much a statement is about.
func estimateText(e *policy.Estimate) string {
	switch {
	case e == nil:
		return "not known"
	case e.Unknown != "":
		return "not known: " + e.Unknown
	}
	return fmt.Sprintf("about %d changed, %d returned: the planner's estimate, by the server's statistics", e.Changed, e.Returned)
}
