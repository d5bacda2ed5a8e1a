package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weir-limiter/weir/pkg/policy"
)

// oldestRedis is the first version that has all that the scripts of weir use.
var oldestRedis = [2]int{6, 2}

func redisVersion(_ context.Context, r *askedRedis) finding {
	version := r.info["redis_version"]
	var is [2]int
	if _, err := fmt.Sscanf(version, "%d.%d", &is[0], &is[1]); err != nil {
		return warning("allow the user INFO", "not known: INFO says nothing of it")
	}
	if slices.Compare(is[:], oldestRedis[:]) < 0 {
		return failure("install Redis 6.2 or later", "%s", version)
	}
	return good("%s", version)
}

func redisRole(_ context.Context, r *askedRedis) finding {
	switch role := r.info["role"]; role {
	case "master":
		return good("master, with %s", plural(number64(r.info["connected_slaves"]), "replica", "replicas"))
	case "":
		return warning("allow the user INFO", "not known: INFO says nothing of it")
	default:
		return failure("write the master's address, or name the sentinels in redis.sentinel", "a replica, which takes no writes (its master: %s:%s)",
			r.info["master_host"], r.info["master_port"])
	}
}

func number64(s string) int {
	n, _ := strconv.Atoi(s) // what is no number is none
	return n
}

func redisCluster(ctx context.Context, r *askedRedis) finding {
	enabled, known := r.info["cluster_enabled"]
	switch {
	case !known:
		return warning("allow the user INFO", "not known: INFO says nothing of it")
	case enabled != "1" && !r.config.Cluster:
		return good("a single server")
	case enabled != "1":
		return failure(`remove "cluster: true"`, "it is no node of a cluster")
	case !r.config.Cluster:
		return failure(`set "cluster: true" in redis`, "it is a node of a cluster, and answers for some keys alone")
	}
	text, err := r.Do(ctx, "CLUSTER", "INFO").Text()
	switch {
	case err != nil:
		return warning("allow the user CLUSTER INFO", "its state is not known: %v", err)
	case !strings.Contains(text, "cluster_state:ok"):
		return failure("see CLUSTER INFO and CLUSTER NODES: slots without a master", "the cluster is not ok")
	}
	return good("a node of a cluster that is ok")
}

// redisMemory looks at what Redis does when it is full.
func redisMemory(_ context.Context, r *askedRedis) finding {
	rule, most := r.info["maxmemory_policy"], number64(r.info["maxmemory"])
	used := number64(r.info["used_memory"])
	switch {
	case rule == "":
		return warning("allow the user INFO", "not known: INFO says nothing of it")
	case most == 0:
		return good("%d MiB in use, without a limit, %s", used>>20, rule)
	case rule != "noeviction":
		return warning("CONFIG SET maxmemory-policy noeviction", "%s: when its %d MiB are full it evicts debts, and a bucket without its debt is full", rule, most>>20)
	case used > most/5*4:
		return warning("CONFIG SET maxmemory to more: when it is full it refuses writes, and on_store_failure decides", "%d of %d MiB in use", used>>20, most>>20)
	}
	return good("%d of %d MiB in use, noeviction", used>>20, most>>20)
}

// usedCommands are those that scripts of weir call. The doctor calls each on a key of its own.
var usedCommands = [][]string{
	{"TIME"}, {"TYPE", "KEY"}, {"EXISTS", "KEY"}, {"HSET", "KEY", "a", "1"}, {"HGET", "KEY", "a"}, {"HMGET", "KEY", "a"}, {"HGETALL", "KEY"},
	{"HEXISTS", "KEY", "a"}, {"HLEN", "KEY"}, {"HKEYS", "KEY"}, {"HSTRLEN", "KEY", "a"}, {"HINCRBY", "KEY", "a", "1"}, {"HDEL", "KEY", "a"},
	{"DEL", "KEY"}, {"ZADD", "KEY", "1", "a"}, {"ZSCORE", "KEY", "a"}, {"ZCARD", "KEY"}, {"ZCOUNT", "KEY", "-inf", "+inf"},
	{"ZRANGE", "KEY", "0", "0"}, {"ZREVRANGE", "KEY", "0", "0"}, {"ZRANGEBYSCORE", "KEY", "-inf", "+inf"}, {"ZREMRANGEBYSCORE", "KEY", "-inf", "0"}, {"PEXPIRE", "KEY", "1000"},
	{"PTTL", "KEY"}, {"ZREM", "KEY", "a"}, {"DEL", "KEY"}, {"SET", "KEY", "a", "PX", "1000", "NX"}, {"GET", "KEY"}, {"DEL", "KEY"},
	{"PUBLISH", "CHANNEL", "doctor"},
}

// probeScript calls what it is given, and gives back the names of what was refused. Whatever it wrote is removed.
const probeScript = `local refused, args = {}, {}
for i = 1, #ARGV do
  if ARGV[i] ~= '' then args[#args + 1] = ARGV[i]
  else
    local answer = redis.pcall(unpack(args))
    if type(answer) == 'table' and answer.err then refused[#refused + 1] = args[1] .. ' ' .. answer.err end
    args = {}
  end
end
return refused`

// redisScripting tries a script as weir sends them: by its digest, and whole if the server has not heard of it.
func redisScripting(ctx context.Context, r *askedRedis) finding {
	if err := r.Do(ctx, "EVALSHA", strings.Repeat("0", 40), 0).Err(); err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		return failure("allow the user EVALSHA: ACL SETUSER ... +evalsha +eval +script|load", "%v", err)
	}
	sha, err := r.Do(ctx, "SCRIPT", "LOAD", probeScript).Text()
	if err != nil {
		return failure("allow the user SCRIPT LOAD: ACL SETUSER ... +script|load", "%v", err)
	}
	if err := r.Do(ctx, "EVALSHA", sha, 1, r.key()).Err(); err != nil {
		return failure("allow the user the keys of redis.key_prefix: ACL SETUSER ... "+r.keys(), "%v", err)
	}
	if err := r.Do(ctx, "EVAL", "return 1", 1, r.key()).Err(); err != nil {
		return failure("allow the user EVAL: ACL SETUSER ... +eval", "%v", err)
	}
	return good("EVALSHA, EVAL and SCRIPT LOAD")
}

// key is one that nothing else uses. In a cluster each server has others, and takes scripts of its own alone.
func (r *askedRedis) key() string { return r.config.KeyPrefix + ":doctor" + r.tag }

func (r *askedRedis) channel() string { return r.config.KeyPrefix + ":policies" }

func (r *askedRedis) keys() string {
	p := r.config.KeyPrefix
	return fmt.Sprintf("~%s:* ~{%s}:* &%s:*", p, p, p)
}

func redisCommands(ctx context.Context, r *askedRedis) finding {
	args := []any{"EVAL", probeScript, 1, r.key()}
	for _, command := range usedCommands {
		for _, word := range command {
			switch word {
			case "KEY":
				word = r.key()
			case "CHANNEL":
				word = r.config.KeyPrefix + ":doctor"
			}
			args = append(args, word)
		}
		args = append(args, "")
	}
	refused, err := r.Do(ctx, args...).StringSlice()
	if err != nil {
		return failure("mend what redis_scripting says", "%v", err)
	}
	if len(refused) == 0 {
		return good("all that scripts use, on the keys of %s", r.config.KeyPrefix)
	}
	var names, mends []string
	for _, text := range refused {
		name, _, _ := strings.Cut(text, " ")
		if !slices.Contains(names, name) {
			names, mends = append(names, name), append(mends, "+"+strings.ToLower(name))
		}
	}
	_, first, _ := strings.Cut(refused[0], " ")
	return failure("ACL SETUSER ... "+strings.Join(mends, " ")+" "+r.keys(), "refused: %s (%s)", strings.Join(names, ", "), first)
}

func redisPubSub(ctx context.Context, r *askedRedis) finding {
	sub := r.Subscribe(ctx, r.channel())
	defer sub.Close()
	if _, err := sub.ReceiveTimeout(ctx, r.config.ConnectionTimeout); err != nil {
		return warning("ACL SETUSER ... +subscribe +unsubscribe &"+r.config.KeyPrefix+":*", "no channel: policies of the whole cluster arrive by polling, seconds later (%v)", err)
	}
	return good("policies of the whole cluster arrive at once")
}

// redisClock compares the clocks. Decisions go by that of Redis alone, but people compare logs.
func redisClock(ctx context.Context, r *askedRedis) finding {
	before := time.Now()
	parts, err := r.Do(ctx, "TIME").Int64Slice()
	if err != nil || len(parts) != 2 {
		return warning("ACL SETUSER ... +time", "not known: %v", err)
	}
	took := time.Since(before)
	ahead := time.Unix(parts[0], parts[1]*1000).Sub(before.Add(took / 2))
	text := fmt.Sprintf("%s from this machine's", ahead.Abs().Round(time.Millisecond))
	if ahead.Abs() > time.Second {
		return warning("let both follow NTP", "%s: limits go by Redis' clock, and are right; the resets that clients are told are off by it", text)
	}
	return good("%s", text)
}

const redisPings = 100

// redisLatency measures what a strict decision waits for.
func redisLatency(ctx context.Context, r *askedRedis) finding {
	times := make([]time.Duration, redisPings)
	for i := range times {
		before := time.Now()
		if err := r.Do(ctx, "PING").Err(); err != nil {
			return failure("see the log of Redis", "a PING failed after %d others: %v", i, err)
		}
		times[i] = time.Since(before)
	}
	slices.Sort(times)
	half, most, limit := times[len(times)/2], times[len(times)*99/100], r.config.CommandTimeout
	text := fmt.Sprintf("%d PINGs: half within %s, 99 %% within %s; command_timeout is %s", redisPings, half.Round(time.Microsecond), most.Round(time.Microsecond), policy.FormatDuration(limit))
	const mend = "put Redis nearer, or raise redis.command_timeout, for which strict decisions wait"
	switch {
	case half > limit:
		return failure(mend, "%s: on_store_failure would decide most of the time", text)
	case most > limit:
		return warning(mend, "%s: on_store_failure would decide now and then", text)
	}
	return good("%s", text)
}
