package redis

import (
	"errors"
	"regexp"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/redisreply"
)

// fault says whose fault an error is. That decides whether one row ends with it, or all rows wait until Redis is well again.
type fault uint8

const (
	// noFault means that there is no error.
	noFault fault = iota
	// rowFault means that the command does not fit the value that its key holds, or has a bad value itself. It concerns one row,
	// and trying again does not help.
	rowFault
	// keyFault means that the Redis user has no right to the command's keys. If the user has rights to other keys, it is the
	// row's fault.
	keyFault
	// commandFault means that the Redis user has no right to the command. If others were allowed the same command, it is the
	// row's fault.
	commandFault
	// storeFault means that Redis did not answer, or answered about its own state. It concerns all rows, and may pass.
	storeFault
	// oddFault means that Redis gave an answer which none of the lists in this file has. If the command is tried alone, it turns
	// out whose fault it is.
	oddFault
)

// rowAnswers are the beginnings of answers about a command that does not fit its key or value. The Save script gets the same
// list.
var rowAnswers = []string{
	"WRONGTYPE", "BUSYKEY", "BUSYGROUP", "NOGROUP", "ERR hash value is not ", "ERR value is not ", "ERR value is NaN ", "ERR value is out of range",
	"ERR increment ", "ERR string exceeds maximum ", "ERR no such key", "ERR index out of range", "ERR offset is out of range",
}

// storeCodes are the first words of answers about the state of Redis, or about this client.
var storeCodes = map[string]bool{
	"LOADING": true, "BUSY": true, "NOTBUSY": true, "UNKILLABLE": true, "MISCONF": true, "OOM": true, "READONLY": true, "NOREPLICAS": true,
	"MASTERDOWN": true, "NOMASTERLINK": true, "NOGOODSLAVE": true, "INPROG": true, "UNBLOCKED": true, "IOERR": true, "NOSCRIPT": true, "EXECABORT": true,
	"NOAUTH": true, "WRONGPASS": true, "NOPROTO": true, "DENIED": true,
	"CLUSTERDOWN": true, "MOVED": true, "ASK": true, "TRYAGAIN": true, "CROSSSLOT": true, "REDIRECT": true,
}

// storeAnswers are the beginnings of answers about the state of Redis, or about this client, that begin with ERR instead of a
// code.
var storeAnswers = []string{
	"ERR max number of clients", "ERR operation not permitted", "ERR invalid password", "ERR AUTH ", "ERR Client sent AUTH", "ERR unauthenticated",
	"ERR DB index ", "ERR invalid DB index", "ERR SELECT is not allowed", "ERR unknown command", "ERR unknown subcommand", "ERR Unknown subcommand",
	"ERR Unknown Redis command", "ERR This Redis command is not allowed", "ERR wrong number of arguments", "ERR Wrong number of args", "ERR syntax error",
	"ERR Protocol error", "ERR This instance has cluster support disabled", "ERR WAIT cannot be used", "ERR Write commands ", "ERR Script attempted ",
	"ERR Lua script attempted ", "ERR Script killed", "ERR Error compiling script", "ERR Error running script", "ERR command not allowed ",
}

// faultOf returns whose fault an error of a Redis command is: the row's, that of the user's rights, or that of Redis itself. An
// error that is no answer of Redis is a storeFault.
func faultOf(err error) fault {
	switch {
	case err == nil:
		return noFault
	case !redisreply.IsAnswer(err):
		return storeFault
	}
	text := said(err)
	if hasAnyPrefix(text, rowAnswers) {
		return rowFault
	}
	if rights, ok := rightsOf(text); ok {
		return rights
	}
	code, _, _ := strings.Cut(text, " ")
	if storeCodes[code] || hasAnyPrefix(text, storeAnswers) {
		return storeFault
	}
	return oddFault
}

// hasAnyPrefix reports whether a text begins with one of prefixes.
func hasAnyPrefix(text string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// rightsOf reads from an answer of Redis which right the user lacks: it returns keyFault or commandFault. It returns false for
// an answer about something else. Redis words answers about rights differently for scripts and for clients.
func rightsOf(text string) (fault, bool) {
	for _, prefix := range []string{"NOPERM", "ERR ACL failure in script:", "ERR The user executing the script"} {
		rest, ok := strings.CutPrefix(text, prefix)
		switch {
		case !ok:
		case strings.Contains(rest, "channel"), strings.Contains(rest, "run the '"), strings.Contains(rest, "run this command"):
			return commandFault, true
		default:
			return keyFault, true
		}
	}
	return noFault, false
}

// inScript matches the error of a script in which Redis before version 7 wraps the error of one of its commands. The command's
// error stands at the end.
var inScript = regexp.MustCompile(`^ERR Error running script .*@user_script: ?\d+: (?:@user_script: ?\d+: )?-?(.+)$`)

// said returns the text that Redis answered, without the words that clients and scripts put before it.
func said(err error) string {
	var answer goredis.Error
	if !errors.As(err, &answer) {
		return err.Error()
	}
	text := strings.TrimPrefix(answer.Error(), "-")
	if inner := inScript.FindStringSubmatch(text); inner != nil {
		return inner[1]
	}
	return text
}

// answerError is the error that Redis returned to one command in a script, or that the script returned about one of its parts.
type answerError string

func (e answerError) Error() string { return string(e) }

// RedisError marks the error as an answer of Redis, as the interface goredis.Error asks for.
func (answerError) RedisError() {}

// storeAdvice returns advice about an error that is the fault of Redis or of the user's rights. prefix is the connector's key
// prefix. It returns "" if the error says only that Redis is not there.
func storeAdvice(err error, prefix string) string {
	if isPermissionFault(answerOf(err)) {
		return "give the user the rights to these commands, to the keys under " + prefix + ", kisgrid:once: and kisgrid:window, and to the channels kisgrid:*"
	}
	code, rest, _ := strings.Cut(said(err), " ")
	switch {
	case goredis.IsAuthError(err):
		return "correct username, password or password_file in the connector's document"
	case code == "OOM":
		return "raise maxmemory in Redis or make room; then try again"
	case code == "READONLY":
		return "addrs must lead to the master: correct the connector's document, or wait for the failover to end"
	case code == "LOADING":
		return "Redis is starting: try again"
	case code == "MISCONF":
		return "Redis can't write to its disk: see its log, and make room there; then try again"
	case code == "NOREPLICAS":
		return "Redis wants more replicas before it is written to (min-replicas-to-write): see that they run; then try again"
	case code == "MASTERDOWN":
		return "this is a replica that has lost its master: correct addrs, or wait until it is back"
	case code == "BUSY":
		return "a script of somebody else runs in Redis: wait until it ends, or end it with SCRIPT KILL"
	case code == "MOVED", code == "ASK", code == "CROSSSLOT":
		return "Redis is a Cluster: give the connector's document all its addresses, or params.cluster: true"
	case code == "CLUSTERDOWN", code == "TRYAGAIN":
		return "the Cluster does not serve all its slots: see CLUSTER INFO there; then try again"
	case code == "DENIED":
		return "Redis is in protected mode: give it a password, or an address to listen at"
	case strings.HasPrefix(rest, "max number of clients"):
		return "raise maxclients in Redis, or lower params.pool_size; then try again"
	case strings.HasPrefix(strings.ToLower(rest), "unknown "), strings.HasPrefix(rest, "This Redis command is not allowed"):
		return "it lacks a command that docs/redis.md lists: use a Redis from 5 on, and rename none of them"
	}
	return ""
}

// answerOf returns the reason in err if err is the error of a command whose own reply was not read (redisreply.Unread). The reason
// may be Redis's answer to another command, such as AUTH. Any other error, and one without a reason, it returns as it is.
func answerOf(err error) error {
	var missed *redisreply.Unread
	if errors.As(err, &missed) && missed.Reason != nil {
		return missed.Reason
	}
	return err
}

// isRefusal reports whether Redis answered with an error about the command itself, which it will answer again.
func isRefusal(err error) bool {
	f := faultOf(err)
	return f != noFault && f != storeFault
}

// isPermissionFault reports whether Redis answered that the user lacks a right.
func isPermissionFault(err error) bool {
	f := faultOf(err)
	return f == keyFault || f == commandFault
}
