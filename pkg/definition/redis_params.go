package definition

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// redisParams has the name of each parameter that a connector of type redis may have, and a function that checks the parameter's
// value: it returns advice if the value is wrong, and "" if it is right. nil means that any text is right. Package
// pkg/connector/redis reads the parameters itself; its tests check that both agree.
var redisParams = map[string]func(string) string{
	"master": nil, "sentinel_username": nil, "sentinel_password": nil, "password": nil,
	"tls_ca": nil, "tls_cert": nil, "tls_key": nil, "tls_server_name": nil,
	"cluster": flagProblem, "tls": flagProblem, "tls_skip_verify": flagProblem,
	"db": numberProblem(0), "retries": numberProblem(0), "pool_size": numberProblem(1),
	"dial_timeout": durationProblem, "read_timeout": durationProblem, "write_timeout": durationProblem, "retry_min": durationProblem,
	"retry_max": durationProblem, "replica_timeout": durationProblem, "once_window": durationProblem,
}

// RedisParams returns the names of the parameters of a connector of type redis, sorted.
func RedisParams() []string { return sortedKeys(redisParams) }

// flagProblem returns advice if the value is not true or false, in a spelling that strconv.ParseBool takes; if it is, it returns
// "".
func flagProblem(value string) string {
	if _, err := strconv.ParseBool(value); err != nil {
		return "write true or false"
	}
	return ""
}

// numberProblem returns a function that checks a value: the function returns advice if the value is not a whole number of least
// or more, and "" if it is.
func numberProblem(least int) func(string) string {
	return func(value string) string {
		if n, err := strconv.Atoi(value); err != nil || n < least || strconv.Itoa(n) != value {
			return fmt.Sprintf("write a whole number from %d, in decimal digits alone", least)
		}
		return ""
	}
}

// durationProblem returns advice if a value is not a duration over 0, such as 500ms, and "" if it is.
func durationProblem(value string) string {
	if d, err := time.ParseDuration(value); err != nil || d <= 0 {
		return "write a time over 0 with its unit, such as 500ms or 3s"
	}
	return ""
}

// redisIntake returns the mistakes in the addresses and parameters of a connector of type redis. A value with a ${NAME} in it is
// not checked, since only workers know the variable.
func (c *Connector) redisIntake() (mistakes Mistakes) {
	blame := func(key, format string, args ...any) {
		mistakes = append(mistakes, &Mistake{
			Document: c.Document.String(), Line: c.Document.LineOf(key), Key: key, Code: batch.CodeBadDocument, Problem: fmt.Sprintf(format, args...),
		})
	}
	for _, addr := range c.Addrs {
		if problem := addressProblem(addr); problem != "" && !strings.Contains(addr, "${") {
			shown := quote(addr)
			if strings.Contains(addr, "@") {
				shown = "an address with an @" // a password may stand before it
			}
			blame("addrs", "has %s, which %s: write host:port, [IPv6]:port, or the path of a unix socket", shown, problem)
		}
	}
	for _, name := range sortedKeys(c.Params) {
		problem, value := redisParams[name], c.Params[name]
		if problem == nil || value == "" || strings.Contains(value, "${") {
			continue
		}
		if advice := problem(value); advice != "" {
			blame("params."+name, "is %s: %s", quote(value), advice)
		}
	}
	if len(mistakes) == 0 {
		c.redisTogether(blame)
	}
	return mistakes
}

// redisTogether checks that the values of a Redis connector fit together, such as retry_min and retry_max. Each value must be
// right by itself already. It calls blame for each mistake.
func (c *Connector) redisTogether(blame func(key, format string, args ...any)) {
	given := func(name string) bool { return c.Params[name] != "" }
	unknown := func(text string) bool { return strings.Contains(text, "${") }
	duration := func(name string, byDefault time.Duration) (d time.Duration, ok bool) {
		if !given(name) {
			return byDefault, true
		}
		d, err := time.ParseDuration(c.Params[name])
		return d, err == nil
	}
	least, leastOK := duration("retry_min", 50*time.Millisecond)
	most, mostOK := duration("retry_max", 2*time.Second)
	if leastOK && mostOK && least > most {
		key := "params.retry_min"
		if !given("retry_min") {
			key = "params.retry_max"
		}
		blame(key, "does not go with the other limit: retry_min (%s) must not be over retry_max (%s)", least, most)
	}
	wait, waitOK := duration("replica_timeout", time.Second)
	read, readOK := duration("read_timeout", 3*time.Second)
	if c.Replicas > 0 && waitOK && readOK && wait >= read {
		key := "params.replica_timeout"
		if !given("replica_timeout") {
			key = "params.read_timeout"
		}
		blame(key, "does not go with replicas: replica_timeout (%s) must be under read_timeout (%s)", wait, read)
	}
	if given("password") && c.PasswordFile != "" {
		blame("password_file", "stands beside params.password: keep one of the two")
	}
	if (c.Params["tls_cert"] == "") != (c.Params["tls_key"] == "") {
		blame("params.tls_"+map[bool]string{true: "cert", false: "key"}[given("tls_cert")], "wants the other one of tls_cert and tls_key: write both or none")
	}
	cluster, _ := strconv.ParseBool(c.Params["cluster"])
	if cluster && given("master") && !unknown(c.Params["master"]) {
		blame("params.master", "is for Sentinel, and does not go with cluster: keep one of the two")
		return
	}
	// Several addresses without a master are a Cluster's too.
	several := len(c.Addrs) > 1 && !given("master") && !slices.ContainsFunc(c.Addrs, unknown)
	if !cluster && !several {
		return
	}
	if db, err := strconv.Atoi(c.Params["db"]); err == nil && db != 0 {
		blame("params.db", "is %d, and a Cluster has database 0 only: leave it out, or name one server, or its Sentinels and master", db)
	}
	if c.Replicas > 0 {
		blame("replicas", "works with a single server or Sentinel: on a Cluster set min-replicas-to-write in its servers")
	}
}

// portName matches the name of a service that stands for a port, such as redis.
var portName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)

// addressProblem returns what is wrong with the address of a server, or "" if nothing is.
func addressProblem(addr string) string {
	if strings.HasPrefix(addr, "/") {
		return ""
	}
	if scheme, _, found := strings.Cut(addr, "://"); found {
		return "begins with " + scheme + "://, which addresses here do not have"
	}
	host, port, err := net.SplitHostPort(addr)
	switch {
	case err != nil && strings.Contains(err.Error(), "missing port"):
		return "has no port"
	case err != nil:
		return "is not an address"
	case strings.ContainsAny(host, "/@ \t,?#"):
		return "has no host name before its port"
	}
	if n, err := strconv.ParseUint(port, 10, 16); (err != nil || n == 0) && !portName.MatchString(port) {
		return "has a port that is neither a number nor a name"
	}
	return ""
}

// Warnings returns a warning for each parameter of a Redis connector that KisGrid does not know and that may be misspelt. It is
// no mistake, since documents written for KisFlow have parameters that the user's own code reads. Each warning has the form
// document:line: key: text.
func (s *Set) Warnings() (warnings []string) {
	for _, name := range sortedKeys(s.Connectors) {
		warnings = append(warnings, s.Connectors[name].warnings()...)
	}
	return warnings
}

// Warnings returns the warnings of Set.Warnings for one document.
func (p Parsed) Warnings() []string {
	if p.Connector == nil {
		return nil
	}
	return p.Connector.warnings()
}

// warnings returns the warnings of Set.Warnings for one connector.
func (c *Connector) warnings() (warnings []string) {
	if c.Type != "redis" {
		return nil
	}
	for _, param := range sortedKeys(c.Params) {
		if _, known := redisParams[param]; !known {
			key := "params." + param
			m := Mistake{
				Document: c.Document.String(), Line: c.Document.LineOf(key), Key: key,
				Problem: "is not a parameter of KisGrid, and is left to your own code" + suggest(param, RedisParams()),
			}
			warnings = append(warnings, m.Error())
		}
	}
	return warnings
}

// FlowWarnings returns warnings about the keys of declared Saves and Loads. A flow is sharded by the value of its shard key, for
// which 7 and 7.0 are the same. A template such as {stu_id} goes by the spelling, so that 7 and 7.0 are two keys in the store.
// If a template has the shard key in this form, that is probably a slip, and the warning proposes {stu_id:value}. Each warning
// has the form document:line: key: text.
func (s *Set) FlowWarnings() (warnings []string) {
	for _, name := range sortedKeys(s.Flows) {
		warnings = append(warnings, s.spelledKeys(s.Flows[name])...)
	}
	return warnings
}

// spelledKeys returns the warnings of FlowWarnings for one flow. It matters because rows with equal shard keys are kept in
// order, but may go to several keys of the store.
func (s *Set) spelledKeys(flow *Flow) (warnings []string) {
	told := make(map[string]bool)
	for _, step := range flow.Functions {
		f := s.Functions[step.Name]
		if f == nil || flow.ShardKey == "" || told[step.Name] {
			continue
		}
		told[step.Name] = true
		for key, t := range f.templates() {
			if !slices.ContainsFunc(t.Parts, func(p TemplatePart) bool { return !p.ByValue && strings.EqualFold(p.Field, flow.ShardKey) }) {
				continue
			}
			m := Mistake{
				Document: f.Document.String(), Line: f.Document.LineOf(key), Key: key,
				Problem: fmt.Sprintf("goes by the spelling of %s, and the flow %s is sharded by its value: 7 and 7.0 are one shard key and two keys here; write {%s:value}",
					flow.ShardKey, flow.Name, flow.ShardKey),
			}
			warnings = append(warnings, m.Error())
		}
	}
	return warnings
}
