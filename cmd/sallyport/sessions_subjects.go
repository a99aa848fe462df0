package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// subjectFlags say of whom sessions are asked for.
type subjectFlags struct {
	who  []string
	keys []string
}

func (f *subjectFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.who, "subject", nil, "only that were shown rows of this subject, NAME=VALUE; may be given again")
	cmd.Flags().StringArrayVar(&f.keys, "subject-key", []string{"/etc/sallyport/subjects.key"}, "file of the key that subjects are named by; may be given again")
	cmd.MarkFlagFilename("subject-key")
}

// subjects are those that were asked for, by each of the keys; nil where none were.
func (f *subjectFlags) subjects() (out []events.Subject, err error) {
	if len(f.who) == 0 {
		return nil, nil
	}
	for _, file := range f.keys {
		b, err := readFile(file, maxSecret)
		if err != nil {
			return nil, fmt.Errorf("--subject-key: %w", err)
		}
		k, err := events.ParseSubjectKey(b)
		if err != nil {
			return nil, fmt.Errorf("--subject-key: %s: %w", file, err)
		}
		for _, s := range f.who {
			name, value, ok := strings.Cut(s, "=")
			if !ok || name == "" || value == "" {
				return nil, errors.New("--subject: give a name of the policy's subjects and a value, like patient=123")
			}
			out = append(out, k.Subject(name, []byte(value)))
		}
	}
	return out, nil
}

// sightings are the statements of a session that were shown rows of whom was asked for.
func sightings(s *recorder.Session) string {
	const most = 8
	var out []string
	for i, n := range s.Sightings {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(s.Sightings)-most))
			break
		}
		out = append(out, "["+strconv.FormatUint(n, 10)+"]")
	}
	return strings.Join(out, " ")
}

// subjectsOf tells whose rows a statement was shown: how many of each name.
func subjectsOf(q *recorder.Statement) string {
	var names []string
	count := map[string]int{}
	for _, text := range q.Subjects {
		name, _, _ := strings.Cut(text, ":")
		if count[name]++; count[name] == 1 {
			names = append(names, name)
		}
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("%d of %s", count[n], n)
	}
	return strings.Join(names, ", ")
}
