package access

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// maxFile is the largest access file, in bytes.
const maxFile = 1 << 20

// document is the access file as it is written, in YAML. Keys that are not here are an error.
type document struct {
	Roles        map[string][]roleRule `yaml:"roles"`
	Identities   []identityRule        `yaml:"identities"`
	Proxy        *proxyRule            `yaml:"proxy"`
	Coordinators []certificateRule     `yaml:"coordinators"` // certificates of coordinators; workers take sessions from no others
	Workers      []certificateRule     `yaml:"workers"`      // certificates of workers; coordinators send rows to no others
}

// roleRule gives rights on the flows whose names match one of the patterns. The fields in Mask are hidden from a caller that may see
// rows by this rule.
type roleRule struct {
	Flows  []string `yaml:"flows"`
	Rights []string `yaml:"rights"`
	Mask   []string `yaml:"mask"`
}

// identityRule names a caller, says how it proves itself, and gives it roles.
type identityRule struct {
	Name         string            `yaml:"name"`
	Roles        []string          `yaml:"roles"`
	Certificates []certificateRule `yaml:"certificates"`
	Tokens       []tokenRule       `yaml:"tokens"`
	ProxyUsers   []string          `yaml:"proxy_users"`
}

// certificateRule selects certificates by their whole subject, or by one of their alternative names. Exactly one field is set.
type certificateRule struct {
	Subject string `yaml:"subject"` // such as CN=payments,O=Shop, as RFC 2253 writes it
	SAN     string `yaml:"san"`     // a DNS name, an IP address, an e-mail address or a URI
}

// tokenRule is a token, by its hash. Expires is when it stops to be valid; zero means never.
type tokenRule struct {
	SHA256  string    `yaml:"sha256"`
	Expires time.Time `yaml:"expires"`
}

// proxyRule says which proxy may name its callers in a header: one with such a certificate, or one that knows the secret.
type proxyRule struct {
	UserHeader   string            `yaml:"user_header"` // default x-forwarded-user
	Certificates []certificateRule `yaml:"certificates"`
	SecretSHA256 string            `yaml:"secret_sha256"`
	SecretHeader string            `yaml:"secret_header"` // default x-kisgrid-proxy-secret
}

// digest is the SHA-256 of a token or of a proxy's secret.
type digest = [sha256.Size]byte

// policy is the content of an access file, ready for use. It does not change, except for token.proven.
type policy struct {
	bySubject, bySAN      map[string]*Identity
	byToken               map[digest]*token
	byUser                map[string]*Identity // by the name that a proxy gives
	coordinators, workers []certificateRule
	proxy                 *proxy // nil means that no proxy may name its callers
}

// proxy is a proxyRule, ready for use.
type proxy struct {
	userHeader, secretHeader string
	certificates             []certificateRule
	secret                   digest
	hasSecret                bool
}

// parse reads an access file. The error names the place of the first mistake.
func parse(text []byte) (*policy, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("the file has %d bytes, over the limit of %d", len(text), maxFile)
	}
	var d document
	in := yaml.NewDecoder(bytes.NewReader(text))
	in.KnownFields(true)
	if err := in.Decode(&d); errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: it may be half written; a file that gives no rights has roles: {}")
	} else if err != nil {
		return nil, err
	}
	if err := in.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file has more than one document: put all into one")
	}
	p := &policy{
		bySubject: map[string]*Identity{}, bySAN: map[string]*Identity{}, byToken: map[digest]*token{}, byUser: map[string]*Identity{},
		coordinators: d.Coordinators, workers: d.Workers,
	}
	for where, rules := range map[string][]certificateRule{"coordinators": d.Coordinators, "workers": d.Workers} {
		if err := checkCertificates(where, rules); err != nil {
			return nil, err
		}
	}
	roles, err := d.grants()
	if err != nil {
		return nil, err
	}
	if err := p.setProxy(d.Proxy); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for i, rule := range d.Identities {
		if err := plainName("name", rule.Name); err != nil {
			return nil, fmt.Errorf("identity %d: %w", i+1, err)
		}
		if names[rule.Name] {
			return nil, fmt.Errorf("identity %q is there twice: give it once, with all of its certificates and tokens", rule.Name)
		}
		names[rule.Name] = true
		id := &Identity{Name: rule.Name}
		for _, role := range rule.Roles {
			grants, there := roles[role]
			if !there {
				return nil, fmt.Errorf("identity %q: there is no role %q", rule.Name, role)
			}
			id.grants = append(id.grants, grants...)
		}
		if err := p.add(id, rule); err != nil {
			return nil, fmt.Errorf("identity %q: %w", rule.Name, err)
		}
	}
	return p, nil
}

// grants checks the roles and returns the grants of each.
func (d *document) grants() (map[string][]grant, error) {
	all := map[string][]grant{}
	for name, rules := range d.Roles {
		all[name] = nil
		for i, rule := range rules {
			at := fmt.Sprintf("role %q, rule %d", name, i+1)
			g := grant{flows: rule.Flows}
			if len(rule.Flows) == 0 || slices.Contains(rule.Flows, "") {
				return nil, fmt.Errorf(`%s: flows is empty: name flows, or give "*" for all`, at)
			}
			if len(rule.Rights) == 0 {
				return nil, fmt.Errorf("%s: rights is empty", at)
			}
			for _, text := range rule.Rights {
				right, ok := rightOf(text)
				if !ok {
					return nil, fmt.Errorf("%s: there is no right %q: the rights are view, rows, submit, operate, define and connect", at, text)
				}
				g.rights |= 1 << right
			}
			if len(rule.Mask) > 0 && !g.rights.has(Rows) {
				return nil, fmt.Errorf("%s: mask hides fields of rows, and the rule does not give the right rows", at)
			}
			for _, field := range rule.Mask {
				if field == "" || slices.Contains(strings.Split(field, "."), "") {
					return nil, fmt.Errorf("%s: mask has %q: give the name of a field, or names with dots between them", at, field)
				}
			}
			g.mask = rule.Mask
			all[name] = append(all[name], g)
		}
	}
	return all, nil
}

// setProxy checks the rule for a proxy and takes it over.
func (p *policy) setProxy(rule *proxyRule) error {
	if rule == nil {
		return nil
	}
	if err := checkCertificates("proxy", rule.Certificates); err != nil {
		return err
	}
	p.proxy = &proxy{userHeader: "x-forwarded-user", secretHeader: "x-kisgrid-proxy-secret", certificates: rule.Certificates}
	for _, h := range []struct {
		given string
		to    *string
	}{{rule.UserHeader, &p.proxy.userHeader}, {rule.SecretHeader, &p.proxy.secretHeader}} {
		if h.given == "" {
			continue
		}
		name := strings.ToLower(h.given)
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || strings.HasSuffix(name, "-bin") || name == "authorization" {
			return fmt.Errorf("proxy: %q can't be the name of a header: use letters, digits and hyphens", h.given)
		}
		*h.to = name
	}
	if p.proxy.userHeader == p.proxy.secretHeader {
		return errors.New("proxy: user_header and secret_header are the same")
	}
	if rule.SecretSHA256 != "" {
		var err error
		if p.proxy.secret, err = readDigest(rule.SecretSHA256); err != nil {
			return fmt.Errorf("proxy: secret_sha256: %w", err)
		}
		p.proxy.hasSecret = true
	}
	if !p.proxy.hasSecret && len(rule.Certificates) == 0 {
		return errors.New("proxy: give certificates or secret_sha256: without them everybody could send the proxy's header")
	}
	return nil
}

// add takes over the ways in which an identity proves itself. No way may belong to two identities.
func (p *policy) add(id *Identity, rule identityRule) error {
	if err := checkCertificates("certificates", rule.Certificates); err != nil {
		return err
	}
	if len(rule.Certificates)+len(rule.Tokens)+len(rule.ProxyUsers) == 0 {
		return errors.New("it has no certificates, tokens or proxy_users, so nobody could be it")
	}
	for _, c := range rule.Certificates {
		to, name := p.bySAN, c.SAN
		if c.Subject != "" {
			to, name = p.bySubject, c.Subject
		}
		if other := to[name]; other != nil {
			return fmt.Errorf("the certificate %s belongs to identity %q already", name, other.Name)
		}
		to[name] = id
	}
	for _, t := range rule.Tokens {
		hash, err := readDigest(t.SHA256)
		if err != nil {
			return fmt.Errorf("tokens: sha256: %w", err)
		}
		if other := p.byToken[hash]; other != nil {
			return fmt.Errorf("a token of it belongs to identity %q already", other.identity.Name)
		}
		p.byToken[hash] = &token{identity: id, expires: t.Expires}
	}
	for _, user := range rule.ProxyUsers {
		if p.proxy == nil {
			return errors.New("it has proxy_users, and the file does not say which proxy may name them: add proxy")
		}
		if err := plainName("proxy_users", user); err != nil {
			return err
		}
		if other := p.byUser[user]; other != nil {
			return fmt.Errorf("the proxy's user %q belongs to identity %q already", user, other.Name)
		}
		p.byUser[user] = id
	}
	return nil
}

// plainName returns an error if a name is empty, too long, or could mislead the reader of a log. what says which name it is.
func plainName(what, name string) error {
	if name == "" || len(name) > 200 || name != strings.TrimSpace(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%s %q: give 1 to 200 printable characters, without spaces at the ends", what, name)
	}
	return nil
}

// readDigest reads a SHA-256 that is written in hexadecimal digits.
func readDigest(text string) (d digest, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(d) {
		return d, errors.New("give the 64 hexadecimal digits that kisgrid token new prints, not the token itself")
	}
	return digest(raw), nil
}

// checkCertificates returns an error if a rule for certificates has both of its fields, or none. where says where the rules stand.
func checkCertificates(where string, rules []certificateRule) error {
	for i, r := range rules {
		if (r.Subject == "") == (r.SAN == "") {
			return fmt.Errorf("%s: certificate %d: give either subject or san", where, i+1)
		}
	}
	return nil
}

// selects reports whether the rule selects a certificate.
func (r certificateRule) selects(c *x509.Certificate) bool {
	if r.Subject != "" {
		return c.Subject.String() == r.Subject
	}
	return slices.Contains(alternativeNames(c), r.SAN)
}

// oneSelects reports whether one of the rules selects a certificate. A nil certificate is selected by none.
func oneSelects(rules []certificateRule, c *x509.Certificate) bool {
	return c != nil && slices.ContainsFunc(rules, func(r certificateRule) bool { return r.selects(c) })
}

// alternativeNames returns the names that a certificate is for, beside its subject. A name that looks like one of another kind is left out: an
// authority that checks names of hosts may be careless with addresses of e-mail, and could issue a certificate with the address
// "coordinator.svc".
func alternativeNames(c *x509.Certificate) (names []string) {
	for _, name := range c.DNSNames {
		if _, err := netip.ParseAddr(name); err != nil && !strings.ContainsAny(name, "@:") {
			names = append(names, name)
		}
	}
	for _, address := range c.EmailAddresses {
		if strings.Contains(address, "@") && !strings.Contains(address, ":") {
			names = append(names, address)
		}
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range c.URIs {
		if uri.IsAbs() {
			names = append(names, uri.String())
		}
	}
	return names
}
