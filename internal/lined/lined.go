// Package lined reads configuration files in YAML, so that what is wrong in them is
// told with file and line.
package lined

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"

	"go.yaml.in/yaml/v3"
)

// File is one that is being checked.
type File struct {
	path string
	doc  yaml.Node
	errs []error
}

// Decode reads a file's text into v. Members that v has not are errors, and so is a
// second document.
func Decode(text []byte, path string, v any) (*File, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s:1: the file is empty", path)
		}
		return nil, located(path, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: holds more than one document", path)
	}
	f := &File{path: path}
	if err := yaml.Unmarshal(text, &f.doc); err != nil {
		return nil, located(path, err)
	}
	return f, nil
}

var ofLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)`)

// located puts file and line in front.
func located(path string, err error) error {
	var lines []string
	var t *yaml.TypeError
	if errors.As(err, &t) {
		lines = t.Errors
	} else {
		lines = []string{err.Error()}
	}
	var errs []error
	for _, l := range lines {
		if m := ofLine.FindStringSubmatch(l); m != nil {
			errs = append(errs, fmt.Errorf("%s:%s: %s", path, m[1], m[2]))
		} else {
			errs = append(errs, fmt.Errorf("%s: %s", path, l))
		}
	}
	return errors.Join(errs...)
}

// Bad notes what is wrong, with the line of the deepest part of at that is there:
// names of members, numbers of elements.
func (f *File) Bad(why string, at ...any) {
	n := &f.doc
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	line := n.Line
	for _, p := range at {
		var next *yaml.Node
		switch p := p.(type) {
		case int:
			if n.Kind == yaml.SequenceNode && p < len(n.Content) {
				next = n.Content[p]
				line = next.Line
			}
		case string:
			for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == p {
					line, next = n.Content[i].Line, n.Content[i+1]
				}
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	f.errs = append(f.errs, fmt.Errorf("%s:%d: %s", f.path, line, why))
}

// Err returns all that is wrong, joined.
func (f *File) Err() error { return errors.Join(f.errs...) }

// Resolve makes a path that is relative to the file's folder one that is not.
func (f *File) Resolve(p *string) {
	if *p != "" && !filepath.IsAbs(*p) {
		*p = filepath.Join(filepath.Dir(f.path), *p)
	}
}
