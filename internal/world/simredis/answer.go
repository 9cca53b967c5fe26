package simredis

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The answers about rights.
const (
	noAuth      = "NOAUTH Authentication required."
	noAuthHello = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
	wrongPass   = "WRONGPASS invalid username-password pair or user is disabled."
	noPassword  = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?" //nolint:gosec // no password
)

// answer carries a command out, and returns its answer. later, if it is not nil, waits for the answer; it is called without the lock. r.mu
// is held.
func (r *Redis) answer(c *conn, args []string) (answer []byte, later func() []byte) {
	name := strings.ToUpper(args[0])
	args = args[1:]
	switch name {
	case "HELLO":
		return r.hello(c, args), nil
	case "AUTH":
		return c.authenticate(args), nil
	case "QUIT":
		c.send([]byte(ok), true)
		return nil, nil
	}
	text := ""
	switch {
	case !c.authenticated && r.password != "":
		text = noAuth
	case r.troubles.loading && !slices.Contains(whileLoading, name):
		text = answerLoading
	case c.inMulti:
		text = r.troubles.refusedWrite(name, false)
	}
	if text != "" {
		c.dirty = true
		if name == "EXEC" {
			text = "EXECABORT Transaction discarded because of: " + text
		}
		return appendError(nil, text), nil
	}
	if len(c.channels) > 0 && !c.resp3 && !slices.Contains([]string{"SUBSCRIBE", "UNSUBSCRIBE", "PING"}, name) {
		return appendError(nil, "ERR Can't execute '"+strings.ToLower(name)+"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"), nil
	}
	switch name {
	case "MULTI", "EXEC", "DISCARD":
		return r.transaction(c, name), nil
	}
	if c.inMulti {
		c.queued = append(c.queued, append([]string{name}, args...))
		return []byte("+QUEUED\r\n"), nil
	}
	if name == "WAIT" {
		return nil, func() []byte { return r.waitForReplicas(c, args) }
	}
	return r.carryOut(c, name, args), nil
}

// carryOut carries out a command that is neither part of the handshake nor about transactions. r.mu is held.
func (r *Redis) carryOut(c *conn, name string, args []string) []byte {
	switch name {
	case "CLIENT":
		return c.client(args)
	case "SELECT":
		return c.selectDatabase(args)
	case "CONFIG":
		return r.configGet(args)
	case "INFO":
		return r.info()
	case "SUBSCRIBE":
		return r.subscribe(c, args)
	case "UNSUBSCRIBE":
		return r.unsubscribeAll(c, args)
	case "PUBSUB":
		return r.countSubscribers(args)
	case "PING":
		switch {
		case len(c.channels) > 0 && !c.resp3:
			return []byte("*2\r\n$4\r\npong\r\n$0\r\n\r\n")
		case len(args) > 0:
			return appendBulk(nil, args[0])
		}
		return []byte("+PONG\r\n")
	}
	return r.engine.carryOut(c, name, args)
}

// hello answers HELLO. r.mu is held.
func (r *Redis) hello(c *conn, args []string) []byte {
	version := 2
	if c.resp3 {
		version = 3
	}
	if len(args) > 0 {
		n, err := strconv.Atoi(args[0])
		switch {
		case err != nil:
			return appendError(nil, "ERR Protocol version is not an integer or out of range")
		case n != 2 && n != 3:
			return appendError(nil, "NOPROTO unsupported protocol version")
		}
		version = n
		args = args[1:]
	}
	for len(args) > 0 {
		switch option := strings.ToUpper(args[0]); {
		case option == "AUTH" && len(args) >= 3:
			if said := c.authenticate(args[1:3]); string(said) != ok {
				return said
			}
			args = args[3:]
		case option == "SETNAME" && len(args) >= 2:
			c.name, args = args[1], args[2:]
		default:
			return appendError(nil, "ERR Syntax error in HELLO option '"+args[0]+"'")
		}
	}
	if !c.authenticated && r.password != "" {
		return appendError(nil, noAuthHello)
	}
	c.resp3 = version == 3
	b := []byte("*14\r\n")
	if c.resp3 {
		b = []byte("%7\r\n")
	}
	role := "master"
	if r.troubles.readOnly {
		role = "replica"
	}
	b = appendBulk(appendBulk(b, "server"), "redis")
	b = appendBulk(appendBulk(b, "version"), "7.0.15")
	b = appendLength(appendBulk(b, "proto"), ':', version)
	b = appendLength(appendBulk(b, "id"), ':', c.number)
	b = appendBulk(appendBulk(b, "mode"), "standalone")
	b = appendBulk(appendBulk(b, "role"), role)
	return appendLength(appendBulk(b, "modules"), '*', 0)
}

// authenticate answers AUTH. redis.mu is held.
func (c *conn) authenticate(args []string) []byte {
	password := c.redis.password
	if len(args) == 1 && password == "" {
		return appendError(nil, noPassword)
	}
	user := "default"
	if len(args) == 2 {
		user, args = args[0], args[1:]
	}
	switch {
	case len(args) != 1:
		return appendError(nil, "ERR wrong number of arguments for 'auth' command")
	case user != "default" || password != "" && args[0] != password:
		return appendError(nil, wrongPass)
	}
	c.authenticated = true
	return []byte(ok)
}

// client answers CLIENT. redis.mu is held.
func (c *conn) client(args []string) []byte {
	if len(args) == 0 {
		return appendError(nil, "ERR wrong number of arguments for 'client' command")
	}
	switch what := strings.ToUpper(args[0]); {
	case what == "SETNAME" && len(args) == 2:
		c.name = args[1]
		return []byte(ok)
	case what == "GETNAME" && len(args) == 1:
		return appendBulk(nil, c.name)
	case what == "SETINFO" && len(args) == 3:
		return []byte(ok)
	case what == "ID" && len(args) == 1:
		return appendLength(nil, ':', c.number)
	}
	return appendError(nil, "ERR unknown subcommand '"+args[0]+"'. Try CLIENT HELP.")
}

// databases is the number of databases that a Redis has by default.
const databases = 16

// selectDatabase answers SELECT. redis.mu is held.
func (c *conn) selectDatabase(args []string) []byte {
	if len(args) != 1 {
		return appendError(nil, "ERR wrong number of arguments for 'select' command")
	}
	n, err := strconv.Atoi(args[0])
	switch {
	case err != nil:
		return appendError(nil, "ERR value is not an integer or out of range")
	case n < 0 || n >= databases:
		return appendError(nil, "ERR DB index is out of range")
	}
	c.database = n
	return []byte(ok)
}

// transaction answers MULTI, EXEC and DISCARD. r.mu is held.
func (r *Redis) transaction(c *conn, name string) []byte {
	switch {
	case name == "MULTI" && c.inMulti:
		return appendError(nil, "ERR MULTI calls can not be nested")
	case name == "MULTI":
		c.inMulti, c.dirty, c.queued = true, false, nil
		return []byte(ok)
	case !c.inMulti:
		return appendError(nil, "ERR "+name+" without MULTI")
	}
	all, dirty := c.queued, c.dirty
	c.inMulti, c.dirty, c.queued = false, false, nil
	switch {
	case name == "DISCARD":
		return []byte(ok)
	case dirty:
		return appendError(nil, "EXECABORT Transaction discarded because of previous errors.")
	}
	b := appendLength(nil, '*', len(all))
	for _, args := range all {
		if args[0] == "WAIT" { // it does not wait within a transaction
			b = appendLength(b, ':', r.config.Replicas)
			continue
		}
		b = append(b, r.carryOut(c, args[0], args[1:])...)
	}
	return b
}

// waitForReplicas answers WAIT: it waits until the replicas have all that has been written so far, and counts them.
func (r *Redis) waitForReplicas(c *conn, args []string) []byte {
	if len(args) != 2 {
		return appendError(nil, "ERR wrong number of arguments for 'wait' command")
	}
	wanted, err := strconv.Atoi(args[0])
	limit, err2 := strconv.Atoi(args[1])
	if err != nil || err2 != nil {
		return appendError(nil, "ERR value is not an integer or out of range")
	}
	if limit < 0 {
		return appendError(nil, "ERR timeout is negative")
	}
	r.mu.Lock()
	readOnly, last := r.troubles.readOnly, time.Time{}
	if n := len(r.journal); n > 0 {
		last = r.journal[n-1].At
	}
	r.mu.Unlock()
	if readOnly {
		return appendError(nil, "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.")
	}
	late := time.Until(last.Add(r.config.Lag))
	if r.config.Replicas == 0 || late <= 0 {
		late = 0
		if r.config.Replicas < wanted && limit > 0 {
			late = time.Duration(limit) * time.Millisecond
		}
		c.sleep(late)
		return appendLength(nil, ':', r.config.Replicas)
	}
	if most := time.Duration(limit) * time.Millisecond; limit > 0 && late > most {
		c.sleep(most)
		return appendLength(nil, ':', 0)
	}
	c.sleep(late)
	return appendLength(nil, ':', r.config.Replicas)
}

// defaults are the settings of a Redis that KisGrid looks at.
var defaults = map[string]string{
	"maxmemory": "0", "maxmemory-policy": "noeviction", "save": "3600 1 300 100 60 10000", "proto-max-bulk-len": "536870912", "appendonly": "yes",
}

// setting returns a setting.
func (r *Redis) setting(name string) (string, bool) {
	if text, ok := r.config.Settings[name]; ok {
		return text, true
	}
	text, ok := defaults[name]
	return text, ok
}

// configGet answers CONFIG GET for single names.
func (r *Redis) configGet(args []string) []byte {
	if len(args) < 2 || !strings.EqualFold(args[0], "get") {
		return appendError(nil, "ERR unknown subcommand or wrong number of arguments for '"+strings.Join(args, " ")+"'. Try CONFIG HELP.")
	}
	var found []string
	for _, name := range args[1:] {
		if text, ok := r.setting(strings.ToLower(name)); ok {
			found = append(found, strings.ToLower(name), text)
		}
	}
	b := appendLength(nil, '*', len(found))
	for _, text := range found {
		b = appendBulk(b, text)
	}
	return b
}

// info answers INFO, with the sections memory and persistence.
func (r *Redis) info() []byte {
	limit, _ := r.setting("maxmemory")
	policy, _ := r.setting("maxmemory-policy")
	file := "0"
	if on, _ := r.setting("appendonly"); on == "yes" {
		file = "1"
	}
	return appendBulk(nil, "# Memory\r\nmaxmemory:"+limit+"\r\nmaxmemory_policy:"+policy+"\r\n\r\n# Persistence\r\nloading:0\r\naof_enabled:"+file+"\r\n")
}
