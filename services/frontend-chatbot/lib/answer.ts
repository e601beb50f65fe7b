/** One message -> one reply, acting on the tasks where the message says so. */

import { HELP, parse, type Command } from './commands'
import { addTask, completeTask, deleteTask, listTasks, Refused, type Task } from './tasks'

/** @throws BackendError when the backend could not be asked. */
export async function answer(message: string): Promise<string> {
  const command = parse(message)
  if ('complaint' in command) return command.complaint
  try {
    return await obey(command)
  } catch (error) {
    if (error instanceof Refused) return `Sorry: ${error.message}.`
    throw error
  }
}

async function obey(command: Command): Promise<string> {
  switch (command.verb) {
    case 'add':
      return `Added ${name(await addTask(command.title))}`
    case 'list':
      return describe(await listTasks())
    case 'done':
      return `Done: ${name(await completeTask(command.id))}`
    case 'delete':
      await deleteTask(command.id)
      return `Deleted ${command.id}.`
    case 'help':
      return HELP
  }
}

function describe(tasks: Task[]): string {
  if (tasks.length === 0) return 'Nothing to do yet.'
  return tasks.map((task) => name(task) + (task.done ? ' (done)' : '')).join('\n')
}

function name(task: Task): string {
  return `${task.id}. ${task.title}`
}
