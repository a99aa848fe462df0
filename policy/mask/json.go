package mask

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxPaths = 100
	maxSteps = 8
)

// A step of a path is a key with a dot before it, or all elements of an array.
const elementsStep = "[]"

// Keep makes the parameter keep of mask json of paths as policies write them:
// keys with dots between, and [] for the elements of an array: visits[].day.
// A key that is no plain word stands in double quotes.
func Keep(list []string) (string, error) {
	var all [][]string
	for _, s := range list {
		p, err := path(s)
		if err != nil {
			return "", fmt.Errorf("keep: %s: %w", s, err)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, slices.Compare)
	lines := make([]string, len(all))
	for i, p := range all {
		lines[i] = printPath(p)
		if i > 0 && len(all[i-1]) <= len(p) && slices.Equal(all[i-1], p[:len(all[i-1])]) {
			return "", fmt.Errorf("keep: %s is there with all that is below it: leave %s out", lines[i-1], lines[i])
		}
	}
	keep := strings.Join(lines, "\n")
	return keep, checkKeep(keep)
}

// maxProjection is the length of the SQL that paths may come to, in bytes.
const maxProjection = 32 << 10

func checkKeep(keep string) error {
	all, err := paths(keep)
	if err == nil && len(projection("c", tree(all), 1)) > maxProjection {
		err = errors.New("keep: too many and too long paths for one statement: keep what is above them, or fewer")
	}
	return err
}

// paths reads the parameter.
func paths(keep string) ([][]string, error) {
	if keep == "" {
		return nil, errors.New("mask json needs keep: the paths that are shown, like [severity, visits[].day]")
	}
	var all [][]string
	for s := range strings.SplitSeq(keep, "\n") {
		p, err := path(s)
		if err != nil {
			return nil, fmt.Errorf("keep: %s: %w", s, err)
		}
		all = append(all, p)
	}
	if len(all) > maxPaths {
		return nil, fmt.Errorf("keep: more than %d paths", maxPaths)
	}
	return all, nil
}

// path takes a path apart into its steps.
func path(s string) ([]string, error) {
	var out []string
	for rest := s; rest != ""; {
		if after, ok := strings.CutPrefix(rest, elementsStep); ok {
			out, rest = append(out, elementsStep), after
			continue
		}
		if len(out) > 0 {
			after, ok := strings.CutPrefix(rest, ".")
			if !ok {
				return nil, errors.New("write dots between keys, and [] for all elements of an array")
			}
			rest = after
		}
		key, after, err := firstKey(rest)
		if err != nil {
			return nil, err
		}
		out, rest = append(out, "."+key), after
	}
	if len(out) == 0 || len(out) > maxSteps {
		return nil, fmt.Errorf("a path has from 1 to %d steps", maxSteps)
	}
	return out, nil
}

// firstKey reads the key that a path begins with.
func firstKey(s string) (key, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ".[")
		if end < 0 {
			end = len(s)
		}
		if key, rest = s[:end], s[end:]; !plainKey(key) {
			return "", "", errors.New("put a key that is no plain word in double quotes")
		}
		return key, rest, nil
	}
	for rest = s[1:]; ; {
		end := strings.IndexByte(rest, '"')
		if end < 0 {
			return "", "", errors.New("a quoted key has no end")
		}
		key, rest = key+rest[:end], rest[end+1:]
		if !strings.HasPrefix(rest, `"`) {
			break
		}
		key, rest = key+`"`, rest[1:] // "" stands for one
	}
	if err := checkConstant(key); err != nil {
		return "", "", fmt.Errorf("a key has at most %d bytes, no control characters and no backslash", maxConstant)
	}
	return key, rest, nil
}

func plainKey(s string) bool {
	return s != "" && len(s) <= maxConstant && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-$") == ""
}

func printPath(steps []string) string {
	var b strings.Builder
	for i, s := range steps {
		switch key := s[1:]; {
		case s == elementsStep:
			b.WriteString(s)
			continue
		case plainKey(key):
			s = key
		default:
			s = quote(key)
		}
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(s)
	}
	return b.String()
}
