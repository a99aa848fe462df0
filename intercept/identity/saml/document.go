package saml

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/beevik/etree"
	xrv "github.com/mattermost/xml-roundtrip-validator"
)

// Limits of a response.
const (
	maxResponse   = 47 << 10 // bytes of XML; in base64 and with a line break it fits the loader's 64 KiB
	maxDepth      = 32       // of elements within elements
	maxElements   = 2000
	maxAttributes = 32  // of one element
	maxPrefixes   = 128 // declarations of namespaces
)

const (
	nsProtocol  = "urn:oasis:names:tc:SAML:2.0:protocol"
	nsAssertion = "urn:oasis:names:tc:SAML:2.0:assertion"
	nsSignature = "http://www.w3.org/2000/09/xmldsig#"
)

// declaration is the only processing instruction that there may be, at the very
// beginning.
var declaration = regexp.MustCompile(`^<\?xml version=["']1\.0["']( encoding=["'](?i:utf-8)["'])?( standalone=["'](yes|no)["'])? ?\?>`)

// decode returns the XML of a response as a browser posts it: base64 (RFC
// 4648, section 4) without line breaks.
func decode(raw string) ([]byte, error) {
	if len(raw) > base64.StdEncoding.EncodedLen(maxResponse) {
		return nil, fmt.Errorf("the response is longer than %d bytes", maxResponse)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(raw)
	// The decoder passes over line breaks.
	if err != nil || len(b) == 0 || strings.ContainsAny(raw, "\r\n") {
		return nil, errors.New("the response is not base64: hand over the SAMLResponse as the browser posted it")
	}
	return b, nil
}

// parse reads a document strictly: see the package's comment.
func parse(b []byte) (*etree.Element, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("the response is not UTF-8")
	}
	rest := b[len(declaration.Find(b)):]
	switch {
	case bytes.Contains(rest, []byte("<!")):
		// Neither a text nor a value may hold "<": it is one of these.
		return nil, errors.New("the response holds a DTD, an entity, a comment or CDATA, which is refused")
	case bytes.Contains(rest, []byte("<?")):
		return nil, errors.New("the response holds a processing instruction, or is not XML 1.0 in UTF-8, which is refused")
	}
	doc := etree.NewDocument()
	doc.ReadSettings = etree.ReadSettings{PreserveDuplicateAttrs: true, MaxDepth: maxDepth}
	if err := doc.ReadFromBytes(b); err != nil {
		return nil, errors.New("the response is no XML, or nests too deep")
	}
	// What is written again must be what was read: namespaces and names that
	// Go's decoder takes for others have deceived verifiers.
	if err := xrv.Validate(bytes.NewReader(b)); err != nil {
		return nil, errors.New("the response is XML that reads differently when it is written again, which is refused")
	}
	for _, c := range doc.Child {
		if d, ok := c.(*etree.CharData); ok && !d.IsWhitespace() {
			return nil, errors.New("the response is more than one XML element")
		}
	}
	roots := doc.ChildElements()
	if len(roots) != 1 {
		return nil, errors.New("the response is more than one XML element")
	}
	w := walker{ids: map[string]bool{}}
	return roots[0], w.walk(roots[0])
}

// walker holds a document against what may stand nowhere in it.
type walker struct {
	elements, prefixes int
	ids                map[string]bool
}

func (w *walker) walk(el *etree.Element) error {
	if w.elements++; w.elements > maxElements {
		return fmt.Errorf("the response has more than %d elements", maxElements)
	}
	if len(el.Attr) > maxAttributes {
		return fmt.Errorf("the response has an element with more than %d attributes", maxAttributes)
	}
	seen, id := map[string]bool{}, false
	for i := range el.Attr {
		a := &el.Attr[i]
		if a.Space == "xmlns" || a.Space == "" && a.Key == "xmlns" {
			if w.prefixes++; w.prefixes > maxPrefixes {
				return fmt.Errorf("the response declares more than %d namespaces", maxPrefixes)
			}
		}
		if seen[a.FullKey()] {
			return errors.New("the response has an attribute twice in one element")
		}
		seen[a.FullKey()] = true
		if strings.EqualFold(a.Key, "id") && a.Space != "xmlns" {
			if id || w.ids[a.Value] {
				return errors.New("the response has an id twice")
			}
			id, w.ids[a.Value] = true, true
		}
	}
	for _, c := range el.Child {
		switch c := c.(type) {
		case *etree.Element:
			if err := w.walk(c); err != nil {
				return err
			}
		case *etree.CharData:
		default:
			return errors.New("the response holds something that is neither an element nor text")
		}
	}
	return nil
}

// is reports that el is the element of that name.
func is(el *etree.Element, ns, tag string) bool { return el.Tag == tag && el.NamespaceURI() == ns }

// children returns the elements of that name right in el.
func children(el *etree.Element, ns, tag string) (out []*etree.Element) {
	for _, c := range el.ChildElements() {
		if is(c, ns, tag) {
			out = append(out, c)
		}
	}
	return out
}

// maybe returns the one element of that name, nil where there is none.
func maybe(el *etree.Element, ns, tag string) (*etree.Element, error) {
	all := children(el, ns, tag)
	if len(all) > 1 {
		return nil, fmt.Errorf("%s has more than one %s", el.Tag, tag)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all[0], nil
}

// one returns the one element of that name.
func one(el *etree.Element, ns, tag string) (*etree.Element, error) {
	c, err := maybe(el, ns, tag)
	if err == nil && c == nil {
		err = fmt.Errorf("%s has no %s", el.Tag, tag)
	}
	return c, err
}

// text returns what an element without elements holds.
func text(el *etree.Element) (string, error) {
	var s strings.Builder
	for _, c := range el.Child {
		d, ok := c.(*etree.CharData)
		if !ok {
			return "", fmt.Errorf("%s holds something else than text", el.Tag)
		}
		s.WriteString(d.Data)
	}
	return s.String(), nil
}

// textOf returns the text of the one element of that name.
func textOf(el *etree.Element, ns, tag string) (string, error) {
	c, err := one(el, ns, tag)
	if err != nil {
		return "", err
	}
	return text(c)
}

// value returns an attribute without a namespace, "" where there is none.
func value(el *etree.Element, name string) string {
	for i := range el.Attr {
		if el.Attr[i].Space == "" && el.Attr[i].Key == name {
			return el.Attr[i].Value
		}
	}
	return ""
}
