package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
)

func sessionsLs() *cobra.Command {
	var f recorder.Filter
	var since, until, after string
	var asJSON bool
	var who subjectFlags
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List sessions, newest first",
		Long: `List sessions, newest first. Filters that are given must all hold; --table and
--text read what was said in each session that the others leave, and --text takes
the statements as they were sent. The next page of a list begins --after the last
session of the one before. Lines come as they are read: columns have the width that
the first 500 need, and --json that ends without its ] was cut off by an error.

With --subject NAME=VALUE only those that were shown rows of somebody, as policy
names whose rows are whose, and which of their statements were. The record has
keyed hashes only: --subject-key names the file of the key that the hosts have
(evidence.subject_key_file), and may be given again for keys that they had before.
VALUE is what the database prints, such as 123 or a uuid in small letters. What
policy could not tell whose it was is not found: such statements say so in
sallyport sessions show.`,
		Example: `  sallyport sessions ls --workload billing-agent --verdict block
  sallyport sessions ls --identity dr.grey --since 720h --until 24h --table patients
  sallyport sessions ls --limit 100 --after 0198c2d1-77aa-7c3e-b0f2-6d1f3a5c9e10
  sallyport sessions ls --verdict would-mask
  sallyport sessions ls --subject patient=123 --subject-key /etc/sallyport/subjects.key
  sallyport sessions ls --since 2026-01-31T08:00:00Z --json | jq '.[].session'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, t := range []struct {
				flag, given string
				to          *time.Time
			}{{"--since", since, &f.Since}, {"--until", until, &f.Until}} {
				if t.given == "" {
					continue
				}
				at, err := parseTime(t.flag, t.given, time.Now())
				if err != nil {
					return configError(err)
				}
				*t.to = at
			}
			if f.Limit < 0 {
				return configError(errors.New("--limit cannot be negative"))
			}
			switch f.Verdict {
			case "", "allow", "mask", "block", "deny", "observed", "would-block", "would-hold", "would-mask", "would-filter":
			default:
				return configError(fmt.Errorf("--verdict %q: must be allow, mask, block, deny, observed, would-block, would-hold, would-mask or would-filter", f.Verdict))
			}
			var err error
			if f.Subjects, err = who.subjects(); err != nil {
				return configError(err)
			}
			return withStore(cmd, func(ctx context.Context, s *recorder.DB) error {
				if what := lookedInto(&f); what != "" {
					if err := reading(ctx, cmd, what); err != nil {
						return err
					}
				}
				if after != "" {
					x, err := s.Find(ctx, after)
					if err != nil {
						return err
					}
					f.After = &x
				}
				list, out := s.List(ctx, f), bufio.NewWriter(cmd.OutOrStdout())
				var err error
				if asJSON {
					err = printJSONList(out, list)
				} else {
					err = listSessions(out, list, f.Subjects != nil)
				}
				return errors.Join(err, out.Flush())
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Identity, "identity", "", "only of this workload, actor or principal")
	fl.StringVar(&f.Workload, "workload", "", "only of this workload")
	fl.StringVar(&f.Actor, "actor", "", "only of this agent")
	fl.StringVar(&f.Principal, "principal", "", "only for this human or account")
	fl.StringVar(&f.Resource, "resource", "", "only with this resource")
	fl.StringVar(&f.Verdict, "verdict", "", "only with a request that was so decided: allow, mask, block, deny, observed; or would have been by rules that only observe: would-block, would-hold, would-mask, would-filter")
	fl.StringVar(&since, "since", "", "only opened since: a duration (90m, 24h) or a time (RFC 3339)")
	fl.StringVar(&until, "until", "", "only opened before: as --since")
	fl.StringVar(&f.Table, "table", "", "only with a statement that touches this relation, with or without its schema")
	fl.StringVar(&f.Text, "text", "", "only with a statement that has this in it")
	fl.StringVar(&after, "after", "", "only what comes behind this session in the list")
	who.add(cmd)
	fl.IntVar(&f.Limit, "limit", 0, "at most so many (0: all)")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RegisterFlagCompletionFunc("verdict", cobra.FixedCompletions([]string{"allow", "mask", "block", "deny", "observed", "would-block", "would-hold", "would-mask", "would-filter"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// lookedInto says what a list is told by that is read in sessions themselves, "" for
// nothing. A text is not repeated: it may be somebody's.
func lookedInto(f *recorder.Filter) string {
	var parts []string
	if f.Subjects != nil {
		parts = append(parts, fmt.Sprintf("subjects %q", f.Subjects))
	}
	if f.Table != "" {
		parts = append(parts, fmt.Sprintf("statements that touch %q", f.Table))
	}
	if f.Text != "" {
		parts = append(parts, "statements with a text")
	}
	return strings.Join(parts, ", ")
}

// printJSONList is printJSON of a list that is printed as it comes.
func printJSONList[T any](w io.Writer, list iter.Seq2[T, error]) error {
	before := "[\n  "
	for x, err := range list {
		if err != nil {
			return err
		}
		b, err := json.MarshalIndent(x, "  ", "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s%s", before, render.JSON(b)); err != nil {
			return err
		}
		before = ",\n  "
	}
	end := "\n]\n"
	if before[0] == '[' {
		end = "[]\n"
	}
	_, err := io.WriteString(w, end)
	return err
}

// listSessions prints a line for each as it comes; seen: with the statements that were
// shown rows of who was asked for.
func listSessions(w io.Writer, list iter.Seq2[recorder.Session, error], seen bool) error {
	t := table{w: w}
	title := []string{"SESSION", "OPENED", "LASTED", "WORKLOAD", "ACTOR", "FOR", "RESOURCE", "STATEMENTS", "MASKED", "REFUSED", "ROWS"}
	if seen {
		title = append(title, "SEEN BY")
	}
	t.row(title)
	for s, err := range list {
		if err != nil {
			return errors.Join(err, t.flush())
		}
		lasted := "open"
		if s.Closed != nil {
			lasted = s.Closed.Sub(s.Opened).Round(time.Millisecond).String()
		}
		row := []string{
			render.Line(s.ID), s.Opened.Local().Format(time.DateTime), lasted, dash(s.Workload), dash(s.Actor), dash(s.Principal), dash(s.Resource),
			fmt.Sprint(s.Statements), fmt.Sprint(s.Masked), fmt.Sprint(s.Refused), fmt.Sprint(s.Rows),
		}
		if seen {
			row = append(row, sightings(&s))
		}
		if err := t.row(row); err != nil {
			return err
		}
	}
	return t.flush()
}

// tableRows are the first rows of a table, which say how wide its columns are.
const tableRows = 500

// table prints rows as they come. All have as many cells.
type table struct {
	w      io.Writer
	first  [][]string // until there are tableRows of them
	widths []int
	line   []byte
}

func (t *table) row(cells []string) error {
	if t.widths != nil {
		return t.print(cells)
	}
	if t.first = append(t.first, cells); len(t.first) < tableRows {
		return nil
	}
	return t.flush()
}

// flush prints the rows that wait for others.
func (t *table) flush() error {
	if t.widths != nil {
		return nil
	}
	t.widths = make([]int, len(t.first[0]))
	for _, row := range t.first {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.first {
		if err := t.print(row); err != nil {
			return err
		}
	}
	t.first = nil
	return nil
}

func (t *table) print(cells []string) error {
	t.line = t.line[:0]
	for i, cell := range cells {
		t.line = append(t.line, cell...)
		if i < len(cells)-1 {
			pad := max(t.widths[i]-utf8.RuneCountInString(cell), 0) + 2
			t.line = append(t.line, strings.Repeat(" ", pad)...)
		}
	}
	_, err := t.w.Write(append(t.line, '\n'))
	return err
}
